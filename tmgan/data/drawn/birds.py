"""The shapes of drawn birds: species, poses and feathers, as polygons that know which part of the bird they are.

A bird looks right, x grows to the right and y down, and the unit is half the length of its body.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tmgan.data.palette import PALETTE, PARTS

OTHER = 100  # label of what has no colour of its own: beak, eyes, legs
HEAD, BODY, WINGS = 1, 2, 3  # labels: 1 + index in PARTS

# Beaks and legs are horn: browns and greys that no caption names.
_HORN = ((70, 62, 56), (150, 118, 74), (196, 150, 84), (104, 96, 92))
_PUPIL, _GLINT, _IRIS, _EYELID = (24, 20, 20), (255, 255, 255), (236, 190, 96), (250, 246, 236)


@dataclass(frozen=True)
class Species:
    """Proportions in half body lengths; ranges are (lowest, highest); `lean` in degrees, 0 = level, 90 = upright."""

    name: str
    poses: tuple[str, ...]  # perch, ground, shore, water, fly, front: drawn with equal probability
    lean: tuple[float, float]
    plump: float  # thickness of the body, 1 = usual
    neck: tuple[float, float]  # length
    throat: float  # thickness of a long neck, in head radii
    head: float  # radius
    beak: tuple[str, float, float]  # kind (cone, flat, hook, needle), length, depth
    tail: tuple[float, float, float]  # length, width of a feather, fork: > 0 makes the outer feathers longer
    legs: float  # length
    crest: float = 0.0  # how often it has one
    wing: float = 1.0  # length of the raised wing, 1 = usual


SPECIES = (
    Species("Finch", ("perch", "ground", "fly"), (8, 48), 1.06, (0.10, 0.22), 1.4, 0.50,
            ("cone", 0.34, 0.30), (0.80, 0.30, 0.15), 0.32, crest=0.4),
    Species("Duck", ("water", "water", "ground"), (-2, 12), 0.96, (0.42, 0.70), 1.25, 0.46,
            ("flat", 0.50, 0.20), (0.42, 0.30, -0.3), 0.30),
    Species("Heron", ("ground", "shore"), (18, 40), 0.78, (0.90, 1.20), 0.95, 0.40,
            ("needle", 0.85, 0.17), (0.42, 0.26, -0.1), 1.05, crest=0.5),
    Species("Parrot", ("perch",), (48, 70), 0.98, (0.06, 0.16), 1.4, 0.56,
            ("hook", 0.40, 0.44), (1.20, 0.30, -0.5), 0.22, crest=0.4),
    Species("Owl", ("front",), (0, 0), 1.0, (0.0, 0.0), 1.4, 0.64,
            ("cone", 0.2, 0.2), (0.42, 0.26, 0.0), 0.2),
    Species("Swallow", ("fly", "fly", "perch"), (4, 26), 0.80, (0.06, 0.14), 1.4, 0.44,
            ("cone", 0.22, 0.16), (1.00, 0.26, 0.7), 0.20),
    Species("Hummingbird", ("fly",), (32, 58), 0.82, (0.10, 0.20), 1.4, 0.46,
            ("needle", 0.90, 0.10), (0.62, 0.30, 0.1), 0.0, wing=0.85),
)  # fmt: skip

# Outlines in the body's own axes: x from tail to breast, y from back to belly.
_TORSO = ((-1.02, -0.08), (-0.5, -0.40), (0.2, -0.52), (0.75, -0.40), (1.0, 0.02), (0.82, 0.48), (0.2, 0.68),
          (-0.5, 0.48), (-1.0, 0.08))  # fmt: skip
_COVERTS = ((0.54, -0.12), (0.30, -0.36), (-0.18, -0.36), (-0.30, -0.10), (-0.04, 0.12), (0.38, 0.05))
_BLADE = np.array([(0, 0.25), (0.5, 0.5), (0.88, 0.38), (1, 0), (0.88, -0.38), (0.5, -0.5), (0, -0.25)])
# The owl, from the front: the right-hand half of its outlines.
_EGG = ((0, -0.75), (0.55, -0.6), (0.78, 0.05), (0.62, 0.72), (0, 1.0))
_SKULL = ((0, -0.86), (0.55, -0.80), (0.98, -1.16), (1.12, -0.3), (1.05, 0.35), (0.5, 0.85), (0, 0.95))


# --- curves ---------------------------------------------------------------------------------------------------------

_T = np.linspace(0, 1, 6, endpoint=False)[:, None]
_SPLINE = 0.5 * np.hstack(
    [-_T + 2 * _T**2 - _T**3, 2 - 5 * _T**2 + 3 * _T**3, _T + 4 * _T**2 - 3 * _T**3, _T**3 - _T**2]
)
_ROUND = np.linspace(0, 2 * np.pi, 24, endpoint=False)
_CIRCLE = np.stack([np.cos(_ROUND), np.sin(_ROUND)], 1)
_TAPER = np.array([0.3, 0.9, 1.0, 0.9, 0.3])


def closed_curve(points) -> np.ndarray:
    """Closed Catmull-Rom curve through `points` (P, 2) -> (6 P, 2)."""
    p = np.asarray(points, float)
    ring = np.concatenate([p[-1:], p, p[:2]])
    near = np.stack([ring[k : k + len(p)] for k in range(4)], 1)
    return (_SPLINE @ near).reshape(-1, 2)


def _stroke(path, widths) -> np.ndarray:
    """Polygon around an open path (P, 2), as wide as `widths` (P,) says."""
    p = np.asarray(path, float)
    along = np.concatenate([p[1:2] - p[:1], p[2:] - p[:-2], p[-1:] - p[-2:-1]])
    along /= np.sqrt((along**2).sum(1, keepdims=True)) + 1e-9
    across = along[:, ::-1] * (-0.5, 0.5) * np.asarray(widths, float)[:, None]
    return np.concatenate([p + across, (p - across)[::-1]])


def _bend(start, middle, end, count: int = 5) -> np.ndarray:
    """Quadratic Bezier curve (count, 2)."""
    t = np.arange(count)[:, None] / (count - 1)
    return (1 - t) ** 2 * np.asarray(start) + 2 * t * (1 - t) * np.asarray(middle) + t**2 * np.asarray(end)


def _turn(angle: float) -> np.ndarray:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _toward(angle: float) -> np.ndarray:
    return np.array([np.cos(angle), np.sin(angle)])


def _mirror(half) -> np.ndarray:
    """Close the right-hand half of an outline, whose first and last points lie on the axis."""
    half = np.asarray(half, float)
    return np.concatenate([half, half[-2:0:-1] * (-1, 1)])


# --- the bird -------------------------------------------------------------------------------------------------------


class Sketch:
    """A bird as (polygon, colour, label) from back to front, where it stands, and where the water covers it."""

    def __init__(self, species: Species, pose: str, colours: dict[str, str], rng: np.random.Generator):
        self.species, self.pose, self.rng = species, pose, rng
        self.polygons: list[tuple[np.ndarray, np.ndarray, int]] = []
        self.foot: np.ndarray | None = None
        self.waterline: float | None = None
        self._paint = {k: np.array(PALETTE[colours[part]], float) for k, part in enumerate(PARTS, 1)}
        self._horn = np.array(_HORN[rng.integers(len(_HORN))], float)
        if pose == "front":
            self._draw_front()
        else:
            self._draw_side()

    def _add(self, polygon: np.ndarray, label: int, tone: float = 1.0, colour=None) -> None:
        """`tone` below 1 darkens, above 1 goes towards white; without `colour`, paint the part's own."""
        colour = self._paint[label] if colour is None else np.asarray(colour, float)
        if tone < 1 and colour.max() < 60:
            tone = 2 - tone  # black cannot get darker: show its feathers by lighter strokes
            colour = colour + (tone - 1) * 60
        else:
            colour = colour * min(tone, 1.0) + (255 - colour) * max(tone - 1.0, 0.0)
        self.polygons.append((polygon, colour, label))

    def _fan(self, roots, angles, lengths, width: float, tones) -> None:
        """Feathers side by side; roots, angles (radians) and tones go from the first of a pair to the second."""
        for k, length in enumerate(lengths):
            t = k / (len(lengths) - 1)
            root = np.asarray(roots[0]) * (1 - t) + np.asarray(roots[1]) * t
            blade = closed_curve(_BLADE * (length, width)) @ _turn(angles[0] * (1 - t) + angles[1] * t).T
            self._add(root + blade, WINGS, tones[k % 2])

    # Side view ------------------------------------------------------------------------------------------------------

    def _draw_side(self) -> None:
        species, rng = self.species, self.rng
        lean = np.deg2rad(rng.uniform(*species.lean))
        turn, plump = _turn(-lean), species.plump * rng.uniform(0.92, 1.08)

        def local(points) -> np.ndarray:
            return (np.asarray(points, float) * (1, plump)) @ turn.T

        flying = self.pose == "fly"
        if flying:
            self._raised_wing(local((0.25, -0.30)), lean, far=True)
        self._tail(local((-0.85, -0.06)), np.pi - lean + rng.uniform(-0.12, 0.12))
        if self.pose in ("perch", "ground", "shore"):
            self._legs(local((-0.12, 0.52)))
        self._add(closed_curve(local(_TORSO)), BODY)
        for k in range(8):  # breast feathers
            x, y = 0.72 - 0.17 * k + rng.uniform(-0.04, 0.04), 0.34 + 0.10 * (-1) ** k + rng.uniform(-0.04, 0.04)
            path = _bend((x + 0.08, y - 0.08), (x + 0.02, y + 0.05), (x - 0.13, y))
            self._add(_stroke(local(path), 0.05 * _TAPER), BODY, 0.86)
        self._head_and_neck(local((0.62, -0.20)), lean)
        if flying:
            self._raised_wing(local((0.15, -0.18)), lean, far=False)
        else:
            self._folded_wing(local)
        if self.pose == "water":
            self.waterline = float(local((0, 0.46))[1])

    def _tail(self, root, direction: float) -> None:
        length, width, fork = self.species.tail
        length *= self.rng.uniform(0.85, 1.1)
        spread = 0.16 + 0.22 * abs(fork)
        lengths = [length * (1 + fork * (abs(k - 2) / 2 - 0.5)) for k in range(5)]
        self._fan((root, root), (direction - spread, direction + spread), lengths, width, (0.82, 0.92))

    def _legs(self, hip) -> None:
        thick = 0.075
        x, bottom = hip[0], hip[1] + self.species.legs * self.rng.uniform(0.9, 1.15) + 0.05
        for offset, tone in ((0.0, 0.8), (0.22, 1.0)):
            ankle = (x + offset - 0.02, bottom)
            leg = _bend((x + offset, hip[1] - 0.15), (x + offset + 0.05, (hip[1] + bottom) / 2), ankle)
            self._add(_stroke(leg, thick * np.array([1.7, 1.2, 1, 1, 1])), OTHER, tone, self._horn)
            for toe in (-0.14, 0.10, 0.22):
                path = [ankle, (ankle[0] + toe, bottom + 0.05)]
                self._add(_stroke(path, [thick, thick * 0.7]), OTHER, tone, self._horn)
        self.foot = np.array([x + 0.1, bottom + 0.03])

    def _head_and_neck(self, base, lean: float) -> None:
        species, rng = self.species, self.rng
        neck, r = rng.uniform(*species.neck), species.head * rng.uniform(0.95, 1.08)
        long = neck > 0.3
        rise = np.deg2rad(rng.uniform(50, 78)) if long else lean * 0.5 + np.deg2rad(rng.uniform(25, 60))
        centre = base + (neck + r * 0.75) * _toward(-rise)
        turn = _turn(np.deg2rad(rng.uniform(-18, 20)))

        def at(x, y) -> np.ndarray:
            return centre + r * (turn @ (x, y))

        if rng.random() < species.crest:
            feathers = ((0.1, -0.7, -1.9, 0.85), (-0.2, -0.65, -2.25, 1.0), (-0.5, -0.5, -2.6, 0.9))
            for x, y, direction, length in feathers:
                blade = closed_curve(_BLADE * (r * length, r * 0.42)) @ (turn @ _turn(direction)).T
                self._add(at(x, y) + blade, HEAD, 0.9)
        throat = species.throat
        bow = (base + centre) / 2 + (0.30 * neck if long else 0.02, 0)
        widths = np.linspace(r * (throat * 1.15 if long else 1.9), r * throat, 7) * (0.55, 0.92, 1, 1, 1, 1, 1)
        root = base + (base - centre) * 0.12
        self._add(_stroke(_bend(root, bow, centre, 7), widths), HEAD)
        self._beak(at)
        self._add(centre + (_CIRCLE * (r * 1.04, r * 0.96)) @ turn.T, HEAD)
        crown = _stroke([at(-0.75, -0.42), at(-0.25, -0.80), at(0.3, -0.78)], [r * 0.05, r * 0.16, r * 0.05])
        self._add(crown, HEAD, 1.12)
        eye = at(0.36, -0.16)
        lid = _IRIS if self._paint[HEAD].max() < 60 else _EYELID
        self._add(eye + _CIRCLE * r * 0.27, OTHER, colour=lid)
        self._add(eye + _CIRCLE * r * 0.21, OTHER, colour=_PUPIL)
        self._add(eye + r * np.array([-0.06, -0.07]) + _CIRCLE * r * 0.07, OTHER, colour=_GLINT)

    def _beak(self, at) -> None:
        kind, length, depth = self.species.beak
        length, depth = length / self.species.head, depth / self.species.head
        if kind == "hook":
            upper = [(0.55, -0.45), (0.95 + 0.4 * length, -0.35), (1 + 0.75 * length, 0.25)]
            upper += [(0.9 + 0.55 * length, 0.75), (0.85, 0.25)]
            lower = [(0.7, 0.1), (1.05, 0.25), (1.1, 0.6), (0.7, 0.5)]
        elif kind == "flat":
            upper = [(0.6, -0.3), (0.95, -0.22), (0.9 + length, 0.1), (0.9 + length, 0.26), (0.8, 0.3)]
            lower = [(0.6, 0.1), (0.85 + 0.9 * length, 0.24), (0.85 + 0.8 * length, 0.38), (0.6, 0.45)]
        else:
            upper = [(0.6, 0.05 - 0.6 * depth), (0.92, 0.05 - 0.5 * depth), (0.9 + length, 0.12), (0.6, 0.15)]
            lower = [(0.6, 0.08), (0.9 + 0.9 * length, 0.12), (0.92, 0.1 + 0.4 * depth), (0.6, 0.1 + 0.5 * depth)]
        smooth = closed_curve if kind in ("hook", "flat") else np.asarray
        for outline, tone in ((lower, 0.78), (upper, 1.0)):
            self._add(smooth([at(x, y) for x, y in outline]), OTHER, tone, self._horn)

    def _folded_wing(self, local) -> None:
        drop, reach = self.rng.uniform(-0.06, 0.06), self.rng.uniform(1.1, 1.3)

        def lower(points) -> np.ndarray:
            return local(np.asarray(points) + (0, drop))

        wing = [(0.58, -0.14), (0.32, -0.42), (-0.3, -0.44), (-reach, -0.12), (-0.62, 0.12), (0.0, 0.22), (0.44, 0.10)]
        self._add(closed_curve(lower(wing)), WINGS, 0.92)
        for k in range(4):  # the long feathers, then the coverts over them
            y = 0.14 - 0.12 * k
            path = _bend((0.1, y), (-0.4, y + 0.02), (-reach * (0.72 + 0.07 * k), -0.04 - 0.03 * k))
            self._add(_stroke(lower(path), 0.05 * _TAPER), WINGS, 0.74)
        self._add(closed_curve(lower(_COVERTS)), WINGS, 1.04)
        for x, y in ((0.30, -0.20), (0.26, -0.02), (0.02, -0.22), (0.0, -0.03)):
            scallop = _bend((x, y - 0.08), (x - 0.13, y), (x, y + 0.08))
            self._add(_stroke(lower(scallop), 0.04 * _TAPER), WINGS, 0.82)

    def _raised_wing(self, shoulder, lean: float, far: bool) -> None:
        rng = self.rng
        size = self.species.wing
        up = -lean - np.deg2rad(rng.uniform(55, 80) if far else rng.uniform(88, 112))
        wrist = shoulder + 0.62 * size * _toward(up + 0.35)
        elbow = shoulder - 0.5 * _toward(-lean)
        tip, base = up - 0.35, up - 1.35
        reach = rng.uniform(1.15, 1.4) * size
        lengths = [reach * (1 - 0.06 * k) for k in range(8)]
        self._fan((wrist, elbow), (tip, base), lengths, 0.30, (0.80, 0.88) if far else (0.88, 0.98))
        edge = 0.4 * wrist + 0.6 * elbow + 0.36 * _toward(base)
        arm = [shoulder + (0.18, 0.1), wrist + 0.1 * _toward(up), edge, elbow]
        self._add(closed_curve(arm), WINGS, 0.90 if far else 1.05)

    # Front view: the owl --------------------------------------------------------------------------------------------

    def _draw_front(self) -> None:
        rng, wide = self.rng, self.rng.uniform(0.92, 1.08)
        length, width, _ = self.species.tail
        angles = (np.pi / 2 + 0.25, np.pi / 2 - 0.25)
        self._fan(((-0.2, 0.85), (0.2, 0.85)), angles, [length, length * 1.1, length], width, (0.72, 0.82))
        self._add(closed_curve(_mirror(_EGG) * (wide, 1)), BODY)
        for row in range(4):
            for k in range(4 - row % 2):
                x, y = (k - 1.5 + 0.5 * (row % 2)) * 0.24, 0.22 * row
                self._add(_stroke([(x - 0.07, y), (x, y + 0.08), (x + 0.07, y)], [0.02, 0.05, 0.02]), BODY, 0.82)
        spread = rng.uniform(0.0, 0.12)
        for side in (-1, 1):
            mirror = (side * wide, 1)
            wing = [(0.46, -0.62), (0.84 + spread, -0.42), (1.0 + spread, 0.2), (0.82 + spread, 0.90)]
            wing += [(0.66, 0.96), (0.56, 0.4), (0.46, -0.2)]
            self._add(closed_curve(np.array(wing) * mirror), WINGS)
            for k in range(3):
                x, y = 0.88 + spread - 0.11 * k, 0.26 + 0.06 * k
                path = _bend((x, y), (x, y + 0.3), (x - 0.1, y + 0.55)) * mirror
                self._add(_stroke(path, 0.055 * _TAPER), WINGS, 0.78)
            for toe in (-0.09, 0, 0.09):
                blade = closed_curve(_BLADE * (0.2, 0.1)) @ _turn(np.pi / 2).T
                self._add((side * 0.24 + toe, 0.92) + blade, OTHER, 0.95, self._horn)
        self.foot = np.array([0.0, 1.06])
        self._owl_face()

    def _owl_face(self) -> None:
        rng, r = self.rng, self.species.head * self.rng.uniform(0.95, 1.05)
        turn, glance = _turn(rng.uniform(-0.2, 0.2)), rng.uniform(-0.1, 0.1)
        centre = np.array([glance * 0.5, -0.86])

        def at(points) -> np.ndarray:
            return centre + r * (np.asarray(points, float) @ turn.T)

        self._add(at(closed_curve(_mirror(_SKULL))), HEAD)
        pale = self._paint[HEAD].min() > 200
        for side in (-1, 1):
            eye = at((0.44 * side + glance, -0.08))
            self._add(eye + _CIRCLE * r * 0.44, HEAD, 0.88 if pale else 1.10)
            self._add(eye + _CIRCLE * r * 0.28, OTHER, colour=_IRIS)
            self._add(eye + _CIRCLE * r * 0.17, OTHER, colour=_PUPIL)
            self._add(eye - 0.07 * r + _CIRCLE * r * 0.07, OTHER, colour=_GLINT)
        self._add(at([(glance - 0.13, 0.10), (glance + 0.13, 0.10), (glance, 0.50)]), OTHER, colour=self._horn)
