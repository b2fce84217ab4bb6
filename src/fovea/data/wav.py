"""PCM wav files to float32 signals: 8, 16, 24 and 32 bit, any number of channels, values in [-1, 1)."""

from __future__ import annotations

import io
import wave
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fovea.errors import DataError

__all__ = ["WavHeader", "read_wav", "wav_header"]


_HEAD = 1 << 16  # the format comes before the sound
_PCM = bytes.fromhex("0100000000001000800000aa00389b71")
"""How PCM is named in WAVE_FORMAT_EXTENSIBLE (Microsoft, ksmedia.h: KSDATAFORMAT_SUBTYPE_PCM)."""


class WavHeader(NamedTuple):
    """``rate`` in samples per second, ``width`` in bytes a sample."""

    frames: int
    channels: int
    rate: int
    width: int


def read_wav(data: bytes, name: str) -> tuple[npt.NDArray[np.float32], int]:
    """``(L,C float32, rate)``. 16-bit samples are divided by 32768, so full scale is [-1, 1)."""
    header, raw = _parse(data, name, frames=True)
    if header.width == 1:  # 8-bit wav is unsigned
        values = (np.frombuffer(raw, np.uint8).astype(np.float32) - 128.0) / 128.0
    elif header.width == 2:
        values = np.frombuffer(raw, "<i2").astype(np.float32) / 32768.0
    elif header.width == 3:  # three bytes become the upper bytes of a 32-bit integer
        wide = np.zeros((len(raw) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(raw, np.uint8).reshape(-1, 3)
        values = (wide.view("<i4")[:, 0] / 2147483648.0).astype(np.float32)
    else:
        values = (np.frombuffer(raw, "<i4") / 2147483648.0).astype(np.float32)
    return values.reshape(-1, header.channels), header.rate


def wav_header(data: bytes, name: str) -> WavHeader:
    """The header alone."""
    return _parse(data, name, frames=False)[0]


def _plain(data: bytes) -> bytes:
    """PCM that calls itself "extensible", as many programs write 24 bits or more than two channels, said as plain PCM:
    Python knows the other only from 3.12 on."""
    place = 12
    while place + 8 <= min(len(data), _HEAD) and data[place : place + 4] != b"fmt ":
        size = int.from_bytes(data[place + 4 : place + 8], "little")
        place += 8 + size + size % 2
    begin = place + 8
    extensible = data[begin : begin + 2] == b"\xfe\xff" and data[begin + 24 : begin + 40] == _PCM
    return data[:begin] + b"\x01\x00" + data[begin + 2 :] if extensible else data


def _parse(data: bytes, name: str, frames: bool) -> tuple[WavHeader, bytes]:
    try:
        with wave.open(io.BytesIO(_plain(data)), "rb") as reader:
            header = WavHeader(reader.getnframes(), reader.getnchannels(), reader.getframerate(), reader.getsampwidth())
            raw = reader.readframes(header.frames) if frames else b""
    except wave.Error as error:
        raise DataError(name, f"is not a PCM wav file ({error}); save it as 8, 16, 24 or 32 bit PCM") from None
    except (EOFError, ValueError, ZeroDivisionError, RuntimeError, OverflowError, OSError) as error:
        raise DataError(name, f"is damaged or cut short: {error or 'the file ends early'}") from None
    if header.width not in (1, 2, 3, 4) or header.channels < 1 or header.rate < 1:
        raise DataError(
            name,
            f"has {header.width * 8}-bit samples, {header.channels} channels at {header.rate} Hz, which is not PCM",
        )
    block = header.width * header.channels
    if header.frames < 1 or header.frames * block > len(data):
        raise DataError(name, f"is damaged or cut short: {header.frames} samples promised in {len(data)} bytes")
    if frames and len(raw) != header.frames * block:
        raise DataError(name, f"is damaged or cut short: {len(raw) // block} of {header.frames} samples are there")
    return header, raw
