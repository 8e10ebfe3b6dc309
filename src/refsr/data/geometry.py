"""Homographies between pictures, as plain 3x3 matrices.

They map (x, y, 1) to (x, y, 1) times a depth; pixel centres lie at whole numbers.
"""

import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

Matrix = NDArray[np.floating[Any]]


def shift(by: NDArray[Any]) -> Matrix:
    """Translation by (x, y)."""
    full = np.eye(3)
    full[:2, 2] = by
    return full


def linear(matrix: NDArray[Any]) -> Matrix:
    """A 2x2 matrix about the origin."""
    full = np.eye(3)
    full[:2, :2] = matrix
    return full


def rotation(degrees: float) -> Matrix:
    """2x2."""
    angle = math.radians(degrees)
    return np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])


def about(matrix: Matrix, centre: NDArray[Any]) -> Matrix:
    """A homography about the origin, moved to a centre (x, y)."""
    return shift(centre) @ matrix @ shift(-centre)


def tilt(degrees: float, axis_degrees: float, focal_px: float) -> Matrix:
    """How a plane through the origin, turned out of the picture, is seen by a camera in front of it.

    Args:
        degrees: Between the plane and the picture.
        axis_degrees: Direction of the axis that it is turned about.
        focal_px: Distance of the camera; the plane must not reach it.

    Source: Hartley and Zisserman, "Multiple View Geometry", 2nd edition, section 8.1.1.
    """
    about_axis = linear(rotation(axis_degrees))
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    seen = np.array([[1, 0, 0], [0, cos, 0], [0, sin / focal_px, 1]])
    return np.asarray(about_axis @ seen @ about_axis.T)


def project(matrix: Matrix, points: Matrix) -> Matrix:
    """Map points (n, 2), each (x, y).

    Written out: as a matrix product, it would wake all of BLAS's threads, which then keep other cores busy.
    """
    x, y = points.T
    across, down, depth = (row[0] * x + row[1] * y + row[2] for row in matrix)
    return np.stack((across / depth, down / depth), 1)


def project_many(matrices: Float[Tensor, "n 3 3"], points: Float[Tensor, "n h w 2"]) -> Float[Tensor, "n h w 2"]:
    """Map points (x, y) by a homography for each picture, on any device."""
    x, y = points.unbind(-1)
    rows = matrices[..., None, None].unbind(1)
    across, down, depth = (row[:, 0] * x + row[:, 1] * y + row[:, 2] for row in rows)
    return torch.stack((across / depth, down / depth), -1)


def pixel_grid(height: int, width: int, device: torch.device) -> Float[Tensor, "h w 2"]:
    """(x, y) of each pixel."""
    y, x = torch.meshgrid(torch.arange(height, device=device), torch.arange(width, device=device), indexing="ij")
    return torch.stack((x, y), -1).float()
