"""What runs of different code share: NumPy's streams, and what is recorded of a tensor."""

import zlib

import numpy as np

PLACES = 16  # directions onto which a recorded tensor is projected


def stream(*words: int | str) -> np.random.Generator:
    """Random numbers that depend on these two words alone."""
    as_numbers = [zlib.crc32(word.encode()) if isinstance(word, str) else word for word in words]
    return np.random.Generator(np.random.Philox(key=np.array(as_numbers, np.uint64)))


def squares(count: int, size: int, index: int) -> np.ndarray:
    """Images with structure: a bright square on noise, uint8 [count, size, size, 1]."""
    rng = stream(5, index)
    images = (rng.random((count, size, size, 1)) * 40).astype(np.uint8)
    for image, (top, left) in zip(images, rng.integers(2, 16, (count, 2))):
        image[top : top + 10, left : left + 10] = 230
    return images


def probes(name: str, size: int) -> np.ndarray:
    """Fixed directions of +-1, [PLACES, size]."""
    return stream(len(name), size).integers(0, 2, (PLACES, size)) * 2.0 - 1.0


def summary(name: str, tensor: np.ndarray) -> dict:
    """The norm and the projections of a tensor."""
    flat = np.float64(tensor).ravel()
    projections = (probes(name, flat.size) @ flat).tolist()
    return {"norm": float(np.linalg.norm(flat)), "projections": projections}


def assert_as_recorded(name: str, tensor: np.ndarray, recorded: dict, share: float) -> None:
    """A tensor is the recorded one, but for a difference of `share` of its norm."""
    found = summary(name, tensor)
    np.testing.assert_allclose(found["norm"], recorded["norm"], rtol=share, err_msg=name)
    # A projection of a difference d onto +-1 is of the size |d|; four of it.
    size = 4 * share * recorded["norm"]
    np.testing.assert_allclose(
        found["projections"], recorded["projections"], atol=size, rtol=0, err_msg=name
    )
