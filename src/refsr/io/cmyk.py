"""CMYK to RGB."""

import io

from PIL import Image, ImageCms


def cmyk_to_rgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert by the embedded profile if it is valid, else by the plain formula."""
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
        except (ImageCms.PyCMSError, OSError):
            converted = None  # a damaged profile
        if converted is not None:
            return converted
    return image.convert("RGB")
