"""Homographies between pictures: 3x3 matrices that map (x, y, 1), pixel centres at integers."""

import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

Matrix = NDArray[np.floating[Any]]


def translation(by: NDArray[Any]) -> Matrix:
    """3x3, by (x, y)."""
    full = np.eye(3)
    full[:2, 2] = by
    return full


def linear(matrix: NDArray[Any]) -> Matrix:
    """3x3, from a 2x2 matrix about the origin."""
    full = np.eye(3)
    full[:2, :2] = matrix
    return full


def rotation(degrees: float) -> Matrix:
    """2x2, clockwise."""
    angle = math.radians(degrees)
    return np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])


def about(matrix: Matrix, centre: NDArray[Any]) -> Matrix:
    """A homography about the origin, applied about a centre (x, y) instead."""
    return translation(centre) @ matrix @ translation(-centre)


def tilt(degrees: float, axis_degrees: float, focal_px: float) -> Matrix:
    """Homography of a plane through the origin that is tilted out of the picture.

    Args:
        degrees: Angle between the plane and the picture.
        axis_degrees: Direction of the axis of the tilt.
        focal_px: Focal length, and distance of the camera, which the plane must not reach.

    Source: Hartley and Zisserman, "Multiple View Geometry", 2nd edition, section 8.1.1.
    """
    about_axis = linear(rotation(axis_degrees))
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    seen = np.array([[1, 0, 0], [0, cos, 0], [0, sin / focal_px, 1]])
    return np.asarray(about_axis @ seen @ about_axis.T)


def project(matrix: Matrix, points: Matrix) -> Matrix:
    """Map points (n, 2), each (x, y).

    Written out, since a matrix product would wake all BLAS threads, which then keep other cores busy.
    """
    x, y = points.T
    across, down, depth = (row[0] * x + row[1] * y + row[2] for row in matrix)
    return np.stack((across / depth, down / depth), 1)


def project_many(matrices: Float[Tensor, "n 3 3"], points: Float[Tensor, "n h w 2"]) -> Float[Tensor, "n h w 2"]:
    """Map points (x, y) by one homography per picture, on any device."""
    x, y = points.unbind(-1)
    rows = matrices[..., None, None].unbind(1)
    across, down, depth = (row[:, 0] * x + row[:, 1] * y + row[:, 2] for row in rows)
    return torch.stack((across / depth, down / depth), -1)


def pixel_grid(height: int, width: int, device: torch.device) -> Float[Tensor, "h w 2"]:
    """(x, y) of each pixel."""
    y, x = torch.meshgrid(torch.arange(height, device=device), torch.arange(width, device=device), indexing="ij")
    return torch.stack((x, y), -1).float()
