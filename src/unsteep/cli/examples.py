"""What the help of a verb ends with: an example, and of `train` the recipes."""

EXAMPLES = {
    "data": "unsteep data photos/ --out contact.png",
    "train": "unsteep train folder --data photos/ --out runs/photos",
    "settings": "unsteep settings folder",
    "report": "unsteep report runs/photos --open",
    "show": "unsteep show runs/photos",
    "verify": "unsteep verify runs/photos",
    "distill": "unsteep distill runs/fashion --steps 4 --data DIR",
    "train-classifier": "unsteep train-classifier runs/fashion --data DIR",
    "sample": "unsteep sample runs/demo -n 64 --label all --guidance 2 --out samples.png",
    "view": "unsteep view clip.pose --out clip.gif",
    "edit": "unsteep edit runs/signer clip.pose --keep 0:10,40:50",
    "fill": "unsteep fill runs/photos photo.jpg --mask mask.png -n 4",
    "redraw": "unsteep redraw runs/photos photo.jpg --strength 0.6",
    "interpolate": "unsteep interpolate runs/photos a.png b.png --frames 9",
    "invert": "unsteep invert runs/photos photos/ --out latents.safetensors",
    "tune-grid": "unsteep tune-grid runs/demo --steps 6",
    "evaluate": "unsteep evaluate runs/demo -n 2000",
    "compare": "unsteep compare runs/a runs/b --metrics fid bits-per-dim",
    "likelihood": "unsteep likelihood runs/demo -n 10",
    "rate-distortion": "unsteep rate-distortion runs/demo",
    "study": "unsteep study solvers runs/demo",
    "ablate": "unsteep ablate digits --budget 1h",
    "check": "unsteep check runs/demo",
    "bench": "unsteep bench runs/photos --out bench/",
    "schedules": "unsteep schedules --plot schedules.png",
}
RECIPES = {
    "digits": "handwritten digits by class; nothing to download",
    "fashion-mnist": "idx files of Fashion-MNIST, by class",
    "mnist": "idx files of MNIST, KMNIST or EMNIST, by class",
    "cifar": "CIFAR-10 or CIFAR-100, by class",
    "folder": "your own pictures",
    "array": "pictures in a .npy or .npz file",
    "shapes": "drawn shapes with captions; nothing to download",
    "captions": "your own pictures with captions",
    "emoji": "the emoji of a font, by their names",
    "upscale": "small pictures made larger",
    "vectors": "rows of numbers",
    "sequences": "series of different lengths",
    "signer": "a synthetic signer, by words; nothing to download",
    "fingerspelling": "letters of 19 sign languages; a tiny corpus",
    "poses": "your own .pose files: hands, faces and bodies that move",
}


def ending(verb: str) -> str:
    """In Markdown."""
    lines = [f"- {name}: {what}" for name, what in RECIPES.items()] if verb == "train" else []
    return "\n".join([*(["Recipes:", "", *lines, ""] if lines else []), f"For example: `{EXAMPLES[verb]}`"])
