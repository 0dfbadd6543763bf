"""What a run writes down: lines that survive a kill, event files, and Weights & Biases without its server."""

from pathlib import Path

import pytest

from training.pretraining.records import JsonLines, TensorBoard, WandB, plot_losses, read_metrics


def test_lines_beyond_the_checkpoint_and_half_lines_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    lines = JsonLines(path, 0)
    for step in (1, 2, 3):
        lines.write(step, {"loss": 1.0 / step})
    lines.close()
    with path.open("a") as file:
        file.write('{"step": 4, "lo')
    again = JsonLines(path, 2)
    again.write(3, {"loss": 9.0})
    again.close()
    assert [(line["step"], line["loss"]) for line in read_metrics(path)] == [(1, 1.0), (2, 0.5), (3, 9.0)]


@pytest.mark.slow
def test_a_plot_of_a_run_without_figures_is_still_a_picture(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": NaN}\n')
    plot_losses(tmp_path / "metrics.jsonl", tmp_path / "loss.png", "nothing")
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_event_files_and_an_offline_run_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_SILENT", "true")
    for record in (TensorBoard(tmp_path / "events", 0), WandB(tmp_path, "run-1", "offline", {"steps": 2})):
        record.write(1, {"loss": 2.0, "sample_0": "Ada sees"})
        record.write(2, {"loss": 1.0})
        record.close()
    (events,) = (tmp_path / "events").iterdir()
    assert b"loss" in events.read_bytes()
    (run,) = tmp_path.glob("wandb/offline-run-*-run-1/run-run-1.wandb")
    assert run.stat().st_size > 0
