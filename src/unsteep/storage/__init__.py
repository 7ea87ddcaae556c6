"""What a run leaves on disk: typed settings, tensors, their hashes, and the lock of the process that writes them.

Nothing is imported here, so that reading a configuration does not wait for torch:

- `storage.config`: frozen dataclasses <-> TOML, strictly, and the overrides of the command line (`schema`: annotations;
  `reading` and `writing`: values under them; `own`: classes of a user's own, by name; `protocols`: what they must have)
- `storage.manifest`: the size and SHA-256 of every file of a folder
- `storage.checkpoint`: tensors and texts in a folder that is whole or absent (`state`: an optimizer's as tensors)
- `storage.lock`: one writer of a folder
"""
