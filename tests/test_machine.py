"""What results say of the machine that they come from."""

import pytest

from scripts import machine


@pytest.fixture
def smi(tmp_path, monkeypatch):
    """Writes a `nvidia-smi` that prints and ends as told."""

    def write(output, status=0):
        path = tmp_path / "nvidia-smi"
        path.write_text(f"#!/bin/sh\nprintf '{output}'\nexit {status}\n")
        path.chmod(0o755)

    monkeypatch.setenv("PATH", str(tmp_path))
    return write


def test_the_first_gpu_is_named(smi):
    smi("NVIDIA H200\\nNVIDIA A100\\n")
    assert machine.gpu() == "NVIDIA H200"


def test_a_machine_without_a_gpu_has_no_name_for_it(smi):
    assert machine.gpu() == ""
    # The driver is there, and no card.
    smi("No devices were found\\n", status=6)
    assert machine.gpu() == ""


def test_the_commit_of_a_copied_checkout_is_that_which_is_told(monkeypatch):
    monkeypatch.setenv(machine.COMMIT, "0123abc")
    assert machine.commit() == "0123abc"


def test_without_git_the_commit_is_unknown(monkeypatch):
    monkeypatch.delenv(machine.COMMIT, raising=False)
    monkeypatch.setenv("PATH", "")
    assert machine.commit() == "unknown"


def test_a_commit_is_shortened_to_its_digits_and_its_changes():
    assert machine.short_commit("0123456789abcdef") == "0123456789"
    assert machine.short_commit("0123456789abcdef-dirty") == "0123456789-dirty"
    assert machine.short_commit("unknown") == "unknown"
