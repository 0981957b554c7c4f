"""Without ComfyUI nothing of this folder can be tested: say so instead of passing."""

import pytest
import workspace

pytestmark = pytest.mark.one_host


def test_there_is_a_comfyui_to_test_with():
    main = workspace.comfyui_path() / "main.py"
    assert main.is_file(), f"{main} is not there: run `make setup`, or set COMFYUI_PATH"
