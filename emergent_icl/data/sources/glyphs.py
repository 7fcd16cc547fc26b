"""Procedural characters that resemble handwriting: any number of classes, no download.

A class is a skeleton of a few cubic Bezier strokes. Each exemplar jitters and affinely transforms
it, and has its own pen width. Coordinates (x, y) are fractions of the image side; y points down.
"""

import ml_collections
import numpy as np

from emergent_icl import randomness
from emergent_icl.config.registry import DATA_SOURCES
from emergent_icl.data.bank import WHITE, ExampleBank, SourceShape
from emergent_icl.data.sources import cache
from emergent_icl.data.sources.source import DataSource, DataUnavailableError
from emergent_icl.data.ticks import ticking

# Increasing it invalidates caches and changes the data of runs.
DRAWING_VERSION = 1
# Classes that share a generator, so that class c does not depend on the number of classes.
BLOCK_CLASSES = 100
# Side of the box into which skeletons are fitted, and their minimum width and height.
BOX = 0.72
MIN_EXTENT = 0.3
LENGTH_POINTS = 24
# Options of exemplars alone.
VARIATION = (
    "control_jitter", "rotation", "shear", "scale", "shift", "min_pen_width", "max_pen_width"
)  # fmt: skip
# Rejected characters typically need only a few redraws.
MAX_REDRAWS = 2000


def glyphs_shape(data: ml_collections.ConfigDict) -> SourceShape:
    """The numbers of classes and exemplars in `config.data.glyphs`."""
    size = (data.image_size, data.image_size)
    return SourceShape(data.glyphs.num_classes, data.glyphs.num_exemplars, size, "image")


def load_glyphs(data: ml_collections.ConfigDict) -> ExampleBank:
    """Draws the characters of `config.data.glyphs`, or loads them from the cache."""
    glyphs = data.glyphs.to_dict()
    content = {"drawing": DRAWING_VERSION, "image_size": data.image_size, **glyphs}
    key = f"{randomness.fingerprint(content):08x}"
    path = cache.cache_folder(data.cache_dir) / f"glyphs-{data.image_size}px-{key}.npz"
    images = cache.load_or_build(path, content, lambda: {"images": draw_glyphs(data)})["images"]
    return ExampleBank("glyphs", images, tuple(f"glyph {i}" for i in range(len(images))))


def draw_glyphs(data: ml_collections.ConfigDict) -> np.ndarray:
    """Draws images, uint8 [classes, exemplars, H, W]; 255 is background, 0 is ink."""
    options = data.glyphs
    shape = (options.num_classes, options.num_exemplars, data.image_size, data.image_size)
    images = np.empty(shape, np.uint8)
    blocks = range(0, options.num_classes, BLOCK_CLASSES)
    for start in ticking("drawing glyphs", blocks, len(blocks)):
        rng = randomness.generator(options.seed, "glyphs", start // BLOCK_CLASSES)
        skeletons = draw_skeletons(rng, BLOCK_CLASSES, options)[: options.num_classes - start]
        for offset, skeleton in enumerate(skeletons):
            strokes, pen = draw_exemplar_strokes(rng, skeleton, options)
            images[start + offset] = render(strokes, pen, data.image_size)
    return images


def draw_skeletons(
    rng: np.random.Generator, count: int, options: ml_collections.ConfigDict
) -> np.ndarray:
    """Skeletons of `count` classes, float64 [count, max_strokes, 4 control points, 2].

    Absent strokes are NaN; all others have length >= `min_stroke_length`. Raises
    DataUnavailableError if such characters are too rare.
    """
    skeletons = _candidates(rng, count, options)
    for _ in range(MAX_REDRAWS):
        lengths = np.nanmin(stroke_lengths(skeletons), axis=1)
        low, high = _bounding_box(skeletons)
        extent = (high - low).min(axis=1)
        poor = (lengths < options.min_stroke_length) | (extent < MIN_EXTENT)
        if not poor.any():
            return skeletons
        skeletons[poor] = _candidates(rng, int(np.count_nonzero(poor)), options)
    raise DataUnavailableError(
        f"data.glyphs: hardly any character of up to max_strokes = {options.max_strokes} strokes "
        f"has only strokes longer than min_stroke_length = {options.min_stroke_length}"
    )


def _candidates(
    rng: np.random.Generator, count: int, options: ml_collections.ConfigDict
) -> np.ndarray:
    num_strokes = rng.integers(options.min_strokes, options.max_strokes + 1, size=count)
    skeletons = np.empty((count, options.max_strokes, 4, 2))
    for stroke in range(options.max_strokes):
        start = rng.random((count, 2))
        if stroke:
            # Start on an earlier stroke.
            earlier = skeletons[np.arange(count), rng.integers(stroke, size=count)]
            joints = bezier_points(earlier, 5)[np.arange(count), rng.integers(5, size=count)]
            joined = rng.random((count, 1)) < options.p_connected
            start = np.where(joined, joints, start)
        end = rng.random((count, 2))
        # As in handwriting, strokes bow to one side; the twist makes some of them S-shaped.
        chord = end - start
        normal = np.stack([-chord[:, 1], chord[:, 0]], axis=1)
        bow, twist = rng.normal(0, (0.5, 0.25), size=(count, 2)).T[..., None]
        first = start + chord / 3 + (bow + twist) * normal
        second = start + chord * 2 / 3 + (bow - twist) * normal
        skeletons[:, stroke] = np.stack([start, first, second, end], axis=1)
    skeletons[np.arange(options.max_strokes) >= num_strokes[:, None]] = np.nan
    low, high = _bounding_box(skeletons)
    center = (low + high) / 2
    scale = BOX / (high - low).max(axis=1)
    return 0.5 + (skeletons - center[:, None, None]) * scale[:, None, None, None]


def _bounding_box(skeletons: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    points = bezier_points(skeletons, LENGTH_POINTS).reshape(len(skeletons), -1, 2)
    return np.nanmin(points, axis=1), np.nanmax(points, axis=1)


def bezier_points(control: np.ndarray, count: int) -> np.ndarray:
    """Evaluates cubic Bezier curves at `count` points: [..., 4, 2] -> [..., count, 2]."""
    t = np.linspace(0, 1, count)
    basis = np.stack([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3], axis=1)
    return np.einsum("pk,...kd->...pd", basis, control)


def stroke_lengths(skeletons: np.ndarray) -> np.ndarray:
    """Computes arc lengths: [..., 4, 2] -> [...]."""
    steps = np.diff(bezier_points(skeletons, LENGTH_POINTS), axis=-2)
    return np.linalg.norm(steps, axis=-1).sum(axis=-1)


def draw_exemplar_strokes(
    rng: np.random.Generator, skeleton: np.ndarray, options: ml_collections.ConfigDict
) -> tuple[np.ndarray, np.ndarray]:
    """Varies a skeleton: strokes [exemplars, strokes, 4, 2] and pen widths [exemplars]."""
    count = options.num_exemplars
    present = skeleton[~np.isnan(skeleton[:, 0, 0])]
    strokes = present + rng.normal(0, options.control_jitter, size=(count, *present.shape))
    angle = rng.normal(0, options.rotation, count)
    shear = rng.normal(0, options.shear, count)
    scale_x, scale_y = np.exp(rng.normal(0, options.scale, (2, count)))
    shift = rng.normal(0, options.shift, (count, 1, 1, 2))
    cos, sin = np.cos(angle), np.sin(angle)
    # Scale, then shear, then rotate; [exemplars, 2, 2].
    rows = [
        [cos * scale_x, (cos * shear - sin) * scale_y],
        [sin * scale_x, (sin * shear + cos) * scale_y],
    ]
    affine = np.ascontiguousarray(np.moveaxis(np.array(rows), -1, 0))
    strokes = np.einsum("eij,eskj->eski", affine, strokes - 0.5) + 0.5 + shift
    return strokes, rng.uniform(options.min_pen_width, options.max_pen_width, count)


def render(strokes: np.ndarray, pen_width: np.ndarray, image_size: int) -> np.ndarray:
    """Renders strokes [N, strokes, 4, 2] with round, antialiased pens; uint8 [N, H, W].

    Pen widths [N] are fractions of the image side. 255 is background.
    """
    # Points are much denser than pixels; otherwise thin pens would draw beads.
    points = bezier_points(strokes, 2 * image_size).reshape(len(strokes), -1, 2)
    points = (points * image_size - 0.5).astype(np.float32)
    pixels = np.arange(image_size, dtype=np.float32)
    # Squared distances are separable: one addition per pixel and point.
    squared_x = np.square(pixels - points[..., :1])
    squared_y = np.square(pixels - points[..., 1:])
    nearest = np.full((len(strokes), image_size, image_size), np.inf, np.float32)
    for i in range(points.shape[1]):
        np.minimum(nearest, squared_y[:, i, :, None] + squared_x[:, i, None, :], out=nearest)
    radius = (pen_width * image_size / 2).astype(np.float32)[:, None, None]
    ink = np.clip(radius + 0.5 - np.sqrt(nearest), 0, 1)
    return np.round(WHITE * (1 - ink)).astype(np.uint8)


DATA_SOURCES.register("glyphs")(
    DataSource(
        glyphs_shape,
        load_glyphs,
        reads=("image_size", "cache_dir"),
        keep_classes=("num_classes", "num_exemplars", *VARIATION),
        generator=DRAWING_VERSION,
    )
)
