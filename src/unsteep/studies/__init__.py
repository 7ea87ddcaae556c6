"""Studies: experiments that compare choices and draw what they found."""
