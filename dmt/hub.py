"""Models on the Hugging Face hub: `model.push_to_hub("me/talker")`, `MotionModel.from_pretrained("me/talker")`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from huggingface_hub import PyTorchModelHubMixin, constants, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from .errors import InputError, why


class OnHub(
    PyTorchModelHubMixin,
    library_name="dreamtalk-dmt",
    tags=["talking-head", "audio-driven", "speech-to-motion"],
    license="apache-2.0",
):
    """huggingface_hub's mixin over this package's own checkpoint format.

    `save_pretrained(folder)`, `push_to_hub(name)` and `from_pretrained(name or folder)` keep one file,
    `model.safetensors`, which is the file that `dmt generate --checkpoint` takes: weights, configuration and training
    record. (`config.json` beside it is for people and the hub; loading does not read it.)
    """

    def _save_pretrained(self, save_directory: Path) -> None:
        from .checkpoint import save_model

        save_model(save_directory / constants.SAFETENSORS_SINGLE_FILE, self, {})

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        revision: str | None,
        cache_dir: str | Path | None,
        force_download: bool,
        local_files_only: bool,
        token: str | bool | None,
        map_location: str = "cpu",
        strict: bool = True,
        **unused: Any,  # the mixin's reading of config.json; the checkpoint holds its own
    ) -> OnHub:
        from .checkpoint import load_model

        name = constants.SAFETENSORS_SINGLE_FILE
        path = Path(model_id) / name
        if not os.path.isdir(model_id):
            path = hf_hub_download(
                model_id,
                name,
                revision=revision,
                cache_dir=cache_dir,
                force_download=force_download,
                token=token,
                local_files_only=local_files_only,
            )
        return load_model(path, map_location)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> OnHub:
        """The model of a folder or of a repository on the hub, in evaluation mode.

        options: as `huggingface_hub.PyTorchModelHubMixin.from_pretrained` takes them (revision, token, cache_dir, ...).
        Raises InputError where there is no such folder or repository, or no usable `model.safetensors` in it.
        """
        try:
            return super().from_pretrained(pretrained_model_name_or_path, **options)
        except (HfHubHTTPError, HFValidationError, OSError) as error:  # a file missing in the cache is an OSError
            raise InputError(
                f"no {constants.SAFETENSORS_SINGLE_FILE} could be had from {str(pretrained_model_name_or_path)!r} "
                f"on the Hugging Face hub ({why(error)}); check the name and the connection, or give a folder"
            ) from None
