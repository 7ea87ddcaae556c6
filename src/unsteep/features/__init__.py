"""Networks that metrics look through: trained here on the user's own pictures, or opened from published weights."""
