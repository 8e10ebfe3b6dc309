"""Enlargement of a whole video."""

import re
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, replace
from heapq import nsmallest
from itertools import islice
from pathlib import Path
from statistics import median, median_low
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from refsr.device import autocast
from refsr.errors import UsageError
from refsr.io.photo import Photo
from refsr.io.progress import Progress, silent
from refsr.models import Blend, DefaultModel, RefSRModel
from refsr.models.base import Reference
from refsr.references.choose import FoundReference, find_references
from refsr.references.index import Library, open_library
from refsr.references.variants import transform
from refsr.resize import resize
from refsr.restore.condition import check_quality, measure_condition, share_of_real
from refsr.restore.delicate import find_delicate
from refsr.restore.memory import plan_memory, spare_bytes
from refsr.restore.pipeline import Encoded, encode, encode_reference, match, with_matches
from refsr.restore.size import Pass, asked_px, passes
from refsr.restore.tiles import Gentle, transfer_tiled
from refsr.restore.upscale import RestoreConfig
from refsr.search import Match, refine_subpixel
from refsr.video.frames import VideoFile, writing
from refsr.video.motion import Flicker, carry
from refsr.wording import counted

_MAXIMUM_AGE_FRAMES: Final = 48
"""Count of frames after which stills are chosen anew."""

_MAXIMUM_COSINE_LOSS: Final = 0.05
"""Fall of a match's mean cosine after which stills are chosen anew."""

_LOOKED_AT_FRAMES, _LOOKED_AT_EVERY = 96, 12
"""Frames in which the softness of the video is measured."""

_FADE: Final = 0.1
"""Share by which the faithful model gives way in each frame after a face or print."""

_STILLS_NEAR_IN_TIME: Final = 4
"""Count of candidates where the stills' times are known."""


@dataclass(frozen=True, kw_only=True)
class VideoConfig(RestoreConfig):
    """Settings of a video's enlargement.

    Attributes:
        most: Maximum count of stills per frame.
        each_frame_anew: Match each frame independently: slower, and with more flicker.
        crf: Quality of H.264, from 0 (lossless) to 51.
    """

    most: int = 1
    each_frame_anew: bool = False
    crf: int = 16

    def __post_init__(self) -> None:
        if self.most < 1:
            raise UsageError(f"{counted(self.most, 'still')} for each frame: give 1 or more")
        if not 0 <= self.crf <= 51:
            raise UsageError(f"a quality (crf) of {self.crf}: give 0 to 51")


@dataclass(frozen=True, kw_only=True)
class VideoResult:
    """Figures of an enlarged video.

    Attributes:
        searched: Count of searches; all other matches were carried.
        used: Count of frames for which each still was used.
        left_out: Kinds of tracks that were not copied, such as "subtitle".
        notes: Lines about what was not read of the stills, and about faces and print.
        flicker_levels: Flicker in grey levels of 0..255, see `refsr.video.motion.Flicker`.
    """

    frames: int
    searched: int
    used: dict[Path, int]
    flicker_levels: float
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def upscale_video(
    source: Path,
    keyframes: Path,
    out: Path,
    model: RefSRModel | Blend,
    config: VideoConfig,
    *,
    progress: Progress = silent,
) -> VideoResult:
    """Enlarge a video with sharp stills as references; the sound is copied.

    Args:
        keyframes: Folder of stills. They are chosen by content, and kept from frame to frame as long as they fit. If
            all file names end in seconds, such as `door_12.5s.jpg`, only those nearest in time are candidates.
        out: Video to write, .mp4 or .mkv.
        model: Model of the default architecture.
        progress: Called after each frame, with the count of frames if the file tells it.

    Raises:
        UsageError: The folder holds no still, or the model has another architecture.
        ImageError: The video cannot be read.
        OutputError: The result cannot be written.
        MemoryBudgetError: A frame does not fit the memory budget.
    """
    blend = Blend.of(model)
    check_quality(blend, config.quality, config.denoise, config.texture)
    with closing(VideoFile(source)) as video:
        sizes, share = _plan(source, video.size_px, blend.clean.scale, config)
        suited = blend.at(share, config.texture)
        if not isinstance(suited, DefaultModel):
            raise UsageError(
                f"the model {suited.name} has no matches to carry from frame to frame: use the default one"
            )
        library = open_library(keyframes, suited)
        faithful = blend.at(share) if config.texture else None
        restorer = _FrameRestorer(suited, faithful, library, config, sizes.out_px)
        flicker, count = Flicker(), 0
        with writing(out, video, sizes.out_px, config.crf) as writer, torch.inference_mode():
            for count, (frame, stamp) in enumerate(video.read(writer), 1):
                lr = resize(frame, sizes.lr_px)
                sr = restorer.restore(lr.to(suited.device), float(stamp[0] * stamp[1]))
                flicker.add(lr, sr)
                writer.write(sr, stamp)
                progress(count, max(count, video.frames))
    return VideoResult(
        frames=count,
        searched=restorer.searched,
        used=restorer.used,
        flicker_levels=flicker.levels,
        left_out=video.left_out,
        notes=(*library.complaints(), *restorer.notes),
    )


def _plan(source: Path, frame_px: tuple[int, int], scale: int, config: VideoConfig) -> tuple[Pass, float]:
    """Sizes of what the network gets and of the result, and the share of weights for real photographs, by the softness
    and condition of a few early frames."""
    out_px = asked_px(frame_px, scale, config.scale, config.size)
    if out_px[0] > frame_px[0] * scale or out_px[1] > frame_px[1] * scale:
        raise UsageError(f"{source}: a video is enlarged {scale} times at the most: ask for less")
    with closing(VideoFile(source)) as video:
        frames = [frame for frame, _ in islice(video.read(), 0, _LOOKED_AT_FRAMES, _LOOKED_AT_EVERY)]
    most = scale * frame_px[0] / out_px[0]
    softness = min(most, median(measure_condition(frame).softness(frame, most) for frame in frames))
    found = passes(frame_px, out_px, scale, softness)
    if not found:
        raise UsageError(f"{source}: is as sharp as its size allows: enlarge it, with --scale 2 or more")
    seen = (measure_condition(resize(frame, found[0].lr_px)) for frame in frames)
    return found[0], median_low(share_of_real(each, config.quality, config.denoise) for each in seen)


@dataclass(kw_only=True)
class _Still:
    """A still in use, its match with the last frame, and the mean cosine of its last search."""

    path: Path
    reference: Reference
    match: Match
    cosine: float


class _FrameRestorer:
    """Restoration frame by frame; it keeps the chosen stills, their matches, and where faces and print were."""

    def __init__(
        self,
        model: DefaultModel,
        faithful: RefSRModel | None,
        library: Library,
        config: VideoConfig,
        out_px: tuple[int, int],
    ) -> None:
        self.model, self.faithful, self.library, self.config, self.out_px = model, faithful, library, config, out_px
        self.memory_bytes = config.memory_bytes or spare_bytes()
        self.stills: list[_Still] = []
        self.times = [_seconds(path) for path in library.paths]
        self.age = _MAXIMUM_AGE_FRAMES
        self.searched = 0
        self.used: Counter[Path] = Counter()
        self.notes: dict[str, None] = {}
        self.delicate: Tensor | None = None

    def restore(self, frame: Float[Tensor, "1 3 h w"], seconds: float) -> Float[Tensor, "1 3 h2 w2"]:
        """Enlarge the next frame, whose time in the video is `seconds`."""
        encoded = encode(self.model, frame)
        if self.config.each_frame_anew or self.age >= _MAXIMUM_AGE_FRAMES or not self._carry(encoded.query):
            self._choose_stills(encoded, seconds)
        self.age += 1
        self.used.update(still.path for still in self.stills)
        matches = []
        for index, still in enumerate(self.stills):
            finer = refine_subpixel(encoded.query, [still.reference.key], still.match)
            matches.append(replace(finer, reference=torch.full_like(finer.reference, index), among=(index,)))
        references = tuple(still.reference for still in self.stills)
        matched = with_matches(self.model, replace(encoded, references=references), matches)
        sizes = [self._size_px(still.reference) for still in self.stills]
        tile = plan_memory(self.model, frame.shape[-2:], sizes, self.memory_bytes, self.out_px).tile
        height, width = frame.shape[-2:]
        with autocast(self.model.device, self.config.precision):
            sr, _ = transfer_tiled(
                self.model,
                matched,
                tile,
                factors=(self.out_px[0] / height, self.out_px[1] / width),
                gentle=self._gentle(frame),
            )
        return sr

    def _gentle(self, frame: Float[Tensor, "1 3 h w"]) -> Gentle | None:
        """What restores faces and print; where one is missed in a frame, it gives way slowly, without a flicker."""
        if self.faithful is None:
            return None
        found = find_delicate(frame)
        if self.delicate is None:
            if found is None:
                return None
            self.notes[found.warning] = None
            self.delicate = torch.zeros_like(found.mask)
        self.delicate = (self.delicate - _FADE).clamp(min=0)
        if found is not None:
            self.delicate = self.delicate.maximum(found.mask)
        return Gentle(model=self.faithful, mask=self.delicate)

    def _carry(self, query: Float[Tensor, "1 c h w"]) -> bool:
        """Carry all matches to the next frame; false if one is lost."""
        for still in self.stills:
            still.match = carry(query, still.reference.key, still.match)
            if still.match.score.mean().item() < still.cosine - _MAXIMUM_COSINE_LOSS:
                return False
        return True

    def _choose_stills(self, encoded: Encoded, seconds: float) -> None:
        """Choose stills for a frame, and match them."""
        photo = Photo(pixels=encoded.lr.cpu())
        known = {still.path: still for still in self.stills}
        self.stills, self.age = [], 0
        for found in find_references(photo, self._candidates(seconds), self.model, most=self.config.most):
            reference = known[found.path].reference if found.path in known else self._encode(found)
            alone = replace(encoded, references=(reference,))
            plan = plan_memory(self.model, encoded.lr.shape[-2:], [self._size_px(reference)], self.memory_bytes)
            (best,) = match(self.model, alone, engine=self.config.engine, memory_bytes=plan.search_bytes).matches
            whole = replace(best, position_cells=best.position_cells.round())
            cosine = best.score.mean().item()
            self.stills.append(_Still(path=found.path, reference=reference, match=whole, cosine=cosine))
            self.searched += 1
            self.notes |= dict.fromkeys(found.photo.notes)

    def _candidates(self, seconds: float) -> Library:
        """Stills nearest in time; all stills if any name lacks its time."""
        distances = [abs(time - seconds) for time in self.times if time is not None]
        if len(distances) < len(self.times):
            return self.library
        near = sorted(nsmallest(_STILLS_NEAR_IN_TIME, range(len(distances)), key=distances.__getitem__))
        paths = tuple(self.library.paths[index] for index in near)
        return replace(self.library, paths=paths, vectors=self.library.vectors[near])

    def _encode(self, found: FoundReference) -> Reference:
        image = found.photo.pixels.to(self.model.device)
        return encode_reference(self.model, transform(image, 0, found.pose.scale, found.pose.degrees).image)

    def _size_px(self, reference: Reference) -> tuple[int, int]:
        return reference.key.shape[-2] * self.model.cell_px, reference.key.shape[-1] * self.model.cell_px


def _seconds(path: Path) -> float | None:
    found = re.search(r"(\d+(?:\.\d+)?)s$", path.stem)
    return float(found[1]) if found else None
