"""ComfyUI's AUDIO -> sounds. What comes over the socket in practice: None, mappings that read a film when they are
asked, waveforms without a batch, numpy arrays."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

KEYS = ("waveform", "sample_rate")


def read_audio(audio: Mapping[str, Any] | None) -> tuple[Tensor, Any]:
    """AUDIO -> waveform (B, C, T) of the type it has, sample rate as it is given; both are checked as they are encoded.

    A waveform (C, T) or (T,) is one sound. ValueError where there is none.
    """
    if audio is None:
        raise ValueError(
            "There is no sound: a video without a sound track gives AUDIO that is None. Connect a video or a file "
            "with sound, or bypass this node."
        )
    if not isinstance(audio, Mapping):
        raise ValueError(f"AUDIO holds {_names(KEYS)}; this is a {type(audio).__name__}. Check the node it comes from.")
    waveform, rate = (_read(audio, key) for key in KEYS)
    if isinstance(waveform, np.ndarray):
        waveform = torch.from_numpy(np.ascontiguousarray(waveform))
    if not isinstance(waveform, Tensor) or not 1 <= waveform.ndim <= 3:
        raise ValueError(
            f"The waveform of AUDIO is a tensor (batch, channels, samples), not {_describe(waveform)}. Check the node "
            "it comes from."
        )
    waveform = waveform[(None,) * (3 - waveform.ndim)]
    if len(waveform) == 0:
        raise ValueError("The batch holds no sound: there is nothing to turn into a reference. Connect at least one.")
    return waveform, rate


def _read(audio: Mapping[str, Any], key: str) -> Any:
    try:
        return audio[key]
    except KeyError as error:
        raise ValueError(f"AUDIO holds {_names(KEYS)}; this one lacks {key}. Check the node it comes from.") from error
    except Exception as error:  # a lazy mapping runs another pack's reader now, which raises what it likes
        raise ValueError(f"The sound could not be read: {error}. Does its file have a sound track?") from error


def _names(keys: tuple[str, ...]) -> str:
    return " and ".join(keys)


def _describe(waveform: Any) -> str:
    return f"one of shape {tuple(waveform.shape)}" if isinstance(waveform, Tensor) else f"a {type(waveform).__name__}"
