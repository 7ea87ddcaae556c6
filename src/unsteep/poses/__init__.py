"""Clips of points that move: skeletons, the files that they lie in, and what is done to a clip before it is learned
from. Of models this room knows nothing, and no network, objective or solver knows this room.

A clip is `data` (frames, points, axes) with `confidence` (frames, points), 0 where a point is missing; its skeleton
says what the points are called, which parts they make, and which are joined.
"""

from unsteep.poses.clip import PoseClip
from unsteep.poses.files import numbered, read_clip, write_clip
from unsteep.poses.skeleton import SHIPPED, Part, Skeleton, skeleton_of

__all__ = ["SHIPPED", "Part", "PoseClip", "Skeleton", "numbered", "read_clip", "skeleton_of", "write_clip"]
