"""Preparing: what each step keeps and drops, the report, going on after a break, bad input."""

import json
import os
import stat
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from mesh.errors import Corrupt, FailedPrecondition, InvalidInput, NotFound
from tests.training import prose
from training import records
from training.prepare import executors, preparing
from training.prepare.preparing import Order, prepare
from training.prepare.settings import Machines, Rules
from training.prepare.stages import Workplace, list_stages
from training.records import SUFFIX, Record, ShardWriter

SHORT = (
    "The baker of our village said that every market was to be closed until this winter had gone, and nobody who heard him "
    "asked why, because the roads were bad and a man with sense stays at home when snow falls."
)
GERMAN = (
    "Im alten Hafen der Stadt lagen viele Schiffe, und die Leute kamen am Abend, um die Netze zu sehen. "
    "Der Fischer erzählte, dass er seit dreißig Jahren nicht mehr so weit hinausgefahren sei wie in diesem Sommer. "
    "Niemand glaubte ihm, aber alle hörten zu, denn es war kalt und man hatte nichts anderes zu tun. "
    "Am nächsten Morgen fuhr er wieder hinaus und kam mit leeren Händen zurück. "
    "Die Kinder liefen ihm am Ufer entgegen und fragten, ob er von den Walen wisse. "
)


def run(corpus: Path, out: Path, **rules: Any) -> dict[str, Any]:
    manifest = prepare(Order((corpus,), out, Rules(**rules)))
    assert manifest is not None
    return manifest


def left(out: Path) -> list[Record]:
    return [record for path in records.shards(out) for record in records.read(path)]


def numbers(out: Path) -> list[int]:
    return sorted(int(record.id.removeprefix("test/")) for record in left(out))


def dropped(manifest: dict[str, Any]) -> dict[str, int]:
    found: dict[str, int] = {}
    for step in manifest["steps"]:
        for reason, count in step["dropped"].items():
            found[f"{step['step']}: {reason}"] = found.get(f"{step['step']}: {reason}", 0) + count
    return found


def step(manifest: dict[str, Any], name: str) -> dict[str, Any]:
    return next(each for each in manifest["steps"] if each["step"] == name)


def test_good_text_passes_unchanged_with_all_that_is_known_of_it(tmp_path: Path) -> None:
    texts = [prose.article(number) for number in range(20)]
    manifest = run(prose.write(tmp_path / "corpus", texts, files=2), tmp_path / "out")
    found = sorted(left(tmp_path / "out"), key=lambda record: int(record.id.removeprefix("test/")))
    assert [record.text for record in found] == texts
    assert found[3].source == "https://example.org/3"
    assert (found[3].licence, found[3].date) == ("CC0-1.0", "2020-01-02T03:04:05Z")
    assert found[3].metadata["language"] == "en"
    assert (manifest["documents"], manifest["documents_read"]) == (20, 20)
    assert not (tmp_path / "out" / ".work").exists()


def test_each_rule_drops_what_it_is_for_and_says_so(tmp_path: Path) -> None:
    good = prose.article(0)
    texts = [
        good,
        GERMAN,
        "zxq vbn mlk qwrt plkj 12 33 zzz kkq " * 20,
        SHORT,
        "The same line again and again.\n" * 40,
        good + "\n\nlorem ipsum dolor sit amet, and the text goes on as if nothing was wrong with it.",
        "\n".join(f"item {number} of the list that we have" for number in range(60)),
        prose.article(1) + " { var a = 1; }",
        good,
        prose.changed(good, 7, share=0.01),
    ]
    manifest = run(prose.write(tmp_path / "corpus", texts), tmp_path / "out", languages=("en",))
    assert numbers(tmp_path / "out") == [0]
    told = dropped(manifest)
    assert told["language: language de"] == 1
    assert told["exact duplicates: exact duplicates"] == 1
    assert told["near duplicates: near duplicates"] == 1
    assert told["gopher quality: gopher short doc"] == 1
    assert told["c4: lorem ipsum"] == told["c4: curly bracket"] == 1
    assert told["gopher repetition: dup line frac"] == 1
    assert sum(told.values()) == 9
    assert manifest["documents_read"] == 10


def test_other_languages_have_their_own_stop_words(tmp_path: Path) -> None:
    manifest = run(prose.write(tmp_path / "corpus", [GERMAN]), tmp_path / "out")
    assert [record.metadata["language"] for record in left(tmp_path / "out")] == ["de"]
    assert manifest["documents"] == 1


def test_source_code_passes_the_rules_for_prose(tmp_path: Path) -> None:
    path = tmp_path / "corpus" / f"0{SUFFIX}"
    writer = ShardWriter(path)
    code = "".join(f"int f{number}(void) {{ return {number}; }}\n" for number in range(30))
    writer.write(Record("github/a/b/x.c", code, "s", "MIT", "", {"repository": "a/b", "path": "x.c", "language": "c"}))
    writer.finish()
    run(tmp_path / "corpus", tmp_path / "out")
    (record,) = left(tmp_path / "out")
    assert (record.text, record.metadata["language"]) == (code, "c")


def test_personal_data_is_masked(tmp_path: Path) -> None:
    text = prose.article(0, paragraphs=10) + (
        " Write to jane.doe@company.com or call +49 170 1234567, from 8.8.8.8 or 192.168.0.1; pay DE89 3704 0044 0532 0130 00"
        " or with 4111 1111 1111 1111, not with 4111 1111 1111 1112, in 2023."
    )
    manifest = run(prose.write(tmp_path / "corpus", [text]), tmp_path / "out")
    (record,) = left(tmp_path / "out")
    for secret in ("jane.doe", "170 1234567", "8.8.8.8", "3704 0044", "4111 1111 1111 1111,"):
        assert secret not in record.text
    for kept in ("192.168.0.1", "4111 1111 1111 1112", "in 2023", prose.article(0, paragraphs=10)):
        assert kept in record.text
    assert step(manifest, "personal data")["changed"] == 1
    run(tmp_path / "corpus", tmp_path / "plain", personal=False)
    assert left(tmp_path / "plain")[0].text == text


@pytest.mark.slow
def test_near_duplicates_are_found_and_others_stay(tmp_path: Path) -> None:
    """200 articles, and of the first 100 a copy with 2 % of the words replaced: a similarity of about 0.8."""
    originals = [prose.article(number) for number in range(200)]
    copies = [prose.changed(text, number) for number, text in enumerate(originals[:100])]
    corpus = prose.write(tmp_path / "corpus", [*originals, *copies], files=3)
    run(corpus, tmp_path / "out")
    found = numbers(tmp_path / "out")
    assert {number % 200 for number in found} == set(range(200))
    assert len(found) <= 205
    run(corpus, tmp_path / "all", near_duplicates=False)
    assert len(numbers(tmp_path / "all")) == 300


def test_texts_with_questions_of_an_evaluation_set_are_left_out(tmp_path: Path) -> None:
    question = "Which of the seven rivers was crossed by the northern army in the spring of that year?"
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "queries.jsonl").write_text(
        json.dumps({"_id": "1", "text": question}) + "\n" + json.dumps({"_id": "2", "text": "Who built it?"}) + "\n"
    )
    answers = {"_id": "1", "answers": ["It was the old one that runs behind the mill and past the chapel"]}
    (tmp_path / "set" / "answers.jsonl").write_text(json.dumps(answers) + "\n")
    texts = [
        prose.article(0),
        prose.article(1) + " which of the Seven Rivers was crossed by the northern army - nobody knows.",
        prose.article(2) + " They said: it was the old one that runs behind the mill, and left.",
        prose.article(3) + " Who built it? Nobody knew who built it before the winter came.",
    ]
    corpus = prose.write(tmp_path / "corpus", texts)
    manifest = run(corpus, tmp_path / "out", evaluation_sets=(tmp_path / "set",))
    assert numbers(tmp_path / "out") == [0, 3]
    assert manifest["evaluation"]["texts"] == 3
    assert manifest["evaluation"]["too_short"] == 1
    assert dropped(manifest) == {"decontamination: in an evaluation set": 2}


def test_records_without_text_and_lines_that_are_none_are_counted(tmp_path: Path) -> None:
    import zstandard

    lines = [prose.record(0, prose.article(0)).line(), prose.record(1, "  ").line(), b'{"id": "2"}\n', b"not json\n"]
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / f"0{SUFFIX}").write_bytes(zstandard.compress(b"".join(lines)))
    manifest = run(tmp_path / "corpus", tmp_path / "out")
    assert dropped(manifest) == {"read: no text": 2, "read: no record": 1}
    assert manifest["documents_read"] == 4


def test_the_report_shows_steps_reasons_and_samples_and_runs_nothing(tmp_path: Path) -> None:
    texts = [prose.article(0), f"<script>alert(1)</script> {SHORT}"]
    run(prose.write(tmp_path / "corpus", texts), tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    assert "gopher quality" in page
    assert "gopher short doc" in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt; The baker" in page
    assert "<script>alert" not in page
    assert page.count("<svg") >= 2


def test_a_done_order_is_not_done_again_and_another_is_refused(tmp_path: Path) -> None:
    corpus = prose.write(tmp_path / "corpus", map(prose.article, range(5)))
    first = run(corpus, tmp_path / "out")
    before = (tmp_path / "out" / "prepared.json").stat().st_mtime_ns
    assert run(corpus, tmp_path / "out") == first
    assert (tmp_path / "out" / "prepared.json").stat().st_mtime_ns == before
    with pytest.raises(FailedPrecondition, match="otherwise"):
        run(corpus, tmp_path / "out", personal=False)
    prose.write(tmp_path / "corpus", map(prose.article, range(6)))
    with pytest.raises(FailedPrecondition, match="other text"):
        run(corpus, tmp_path / "out")


@pytest.mark.slow
def test_the_fingerprint_is_of_the_content(tmp_path: Path) -> None:
    one = run(prose.write(tmp_path / "a", map(prose.article, range(5))), tmp_path / "out-a")
    same = run(prose.write(tmp_path / "b", map(prose.article, range(5))), tmp_path / "out-b")
    other = run(prose.write(tmp_path / "c", map(prose.article, range(1, 6))), tmp_path / "out-c")
    assert one["fingerprint"] == same["fingerprint"] != other["fingerprint"]


@pytest.mark.slow
@pytest.mark.parametrize("broken_at", range(6))
def test_broken_off_after_any_stage_it_goes_on_to_the_same_result(
    tmp_path: Path, broken_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [*map(prose.article, range(10)), prose.article(3), prose.changed(prose.article(4), 1)]
    corpus = prose.write(tmp_path / "corpus", texts, files=2)
    whole = run(corpus, tmp_path / "whole")
    run_here, done = executors.run_here, 0

    def breaking(*given: Any) -> None:
        nonlocal done
        if done == broken_at:
            raise KeyboardInterrupt
        done += 1
        run_here(*given)

    monkeypatch.setattr(executors, "run_here", breaking)
    with pytest.raises(KeyboardInterrupt):
        run(corpus, tmp_path / "out")
    with pytest.raises(NotFound):
        records.shards(tmp_path / "out")
    monkeypatch.undo()
    again = run(corpus, tmp_path / "out")
    assert again["fingerprint"] == whole["fingerprint"]
    assert again["documents"] == 10


@pytest.mark.slow
def test_several_processes_give_the_same(tmp_path: Path) -> None:
    texts = [*map(prose.article, range(60)), *(prose.changed(prose.article(number), 1) for number in range(10))]
    corpus = prose.write(tmp_path / "corpus", texts, files=4)
    one = run(corpus, tmp_path / "one")
    two = prepare(Order((corpus,), tmp_path / "two", Rules(), Machines(workers=2)))
    assert two is not None
    assert two["fingerprint"] == one["fingerprint"]


def test_a_file_of_which_nothing_is_left_shifts_no_other(tmp_path: Path) -> None:
    """datatrove tells its files by their place among those that exist."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    for place, texts in enumerate((["short"], [prose.article(1), prose.article(1)], ["short"], [prose.article(2)])):
        writer = ShardWriter(folder / f"{place}{SUFFIX}")
        for number, text in enumerate(texts):
            writer.write(prose.record(10 * place + number, text))
        writer.finish()
    run(folder, tmp_path / "out")
    assert numbers(tmp_path / "out") == [10, 30]


def test_bad_input_is_told_before_anything_is_made(tmp_path: Path) -> None:
    good = prose.write(tmp_path / "good", [prose.article(0)])
    cut = prose.write(tmp_path / "cut", [prose.article(0)])
    (path,) = records.shards(cut)
    path.write_bytes(path.read_bytes()[:-5])
    (tmp_path / "none").mkdir()
    out = tmp_path / "out"
    with pytest.raises(Corrupt, match="truncated"):
        run(cut, out)
    with pytest.raises(NotFound, match="holds no"):
        run(tmp_path / "none", out)
    with pytest.raises(InvalidInput, match="no evaluation set"):
        run(good, out, evaluation_sets=(tmp_path / "nowhere",))
    with pytest.raises(InvalidInput, match="executor 'cloud'"):
        prepare(Order((good,), out, Rules(), Machines("cloud")))
    with pytest.raises(InvalidInput, match="partition and time"):
        prepare(Order((good,), out, Rules(), Machines("slurm")))
    assert not out.exists()
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    with pytest.raises(FailedPrecondition, match="not empty"):
        run(good, out)


def test_too_little_room_is_told_before_anything_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = prose.write(tmp_path / "corpus", [prose.article(0)])
    monkeypatch.setattr(preparing, "_NEEDED_RATIO", 1 << 50)
    with pytest.raises(FailedPrecondition, match="MB are needed"):
        run(corpus, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_empty_corpus_leaves_a_report_of_nothing(tmp_path: Path) -> None:
    manifest = run(prose.write(tmp_path / "corpus", ["short"]), tmp_path / "out")
    assert manifest["documents"] == 0
    assert (tmp_path / "out" / "report.html").exists()


def test_speed_is_told_for_every_step_that_took_time(tmp_path: Path) -> None:
    manifest = run(prose.write(tmp_path / "corpus", map(prose.article, range(100))), tmp_path / "out")
    for each in manifest["steps"]:
        assert each["cpu_s"] >= 0.0
        assert each["bytes_in"] > 0 or each["bytes_out"] > 0
    assert step(manifest, "gopher repetition")["mb_a_second"] > 0


@pytest.mark.slow
def test_slurm_gets_every_stage_and_runs_to_the_same_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An `sbatch` that runs each task of a job at once, as Slurm would when the ones before are done."""
    corpus = prose.write(tmp_path / "corpus", [*map(prose.article, range(10)), prose.article(1)], files=2)
    whole = run(corpus, tmp_path / "whole")
    commands = tmp_path / "bin"
    commands.mkdir()
    sbatch = commands / "sbatch"
    sbatch.write_text(SBATCH)
    (commands / "srun").write_text('#!/bin/sh\nshift 3  # -l -n 1\nexec "$@"\n')
    (commands / "scontrol").write_text("#!/bin/sh\necho localhost\n")
    for command in commands.iterdir():
        command.chmod(command.stat().st_mode | stat.S_IXUSR)
    path = f"{commands}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    monkeypatch.setenv("PATH", path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(entry for entry in sys.path if entry))
    monkeypatch.setenv("JOBS", str(tmp_path / "jobs"))
    machines = Machines("slurm", -1, {"partition": "cpu", "time": "00:10:00"})
    manifest = prepare(Order((corpus,), tmp_path / "out", Rules(), machines))
    assert manifest is not None
    assert manifest["fingerprint"] == whole["fingerprint"]
    jobs = (tmp_path / "jobs").read_text().split()
    stages = list_stages(records.shards(corpus), Rules(), Workplace(tmp_path / "x"))
    assert len(jobs) == 2 * (len(stages) + 1)  # datatrove sends a job after each that sums up what it counted


SBATCH = """#!/bin/bash
# Runs the job's script for each task of its array, and says the job's number.
script="${@: -1}"
echo "$script" >> "$JOBS"
number=$(wc -l < "$JOBS")
tasks=$(sed -n 's/^#SBATCH --array=\\([0-9-]*\\).*/\\1/p' "$script")
for task in $(seq "${tasks%-*}" "${tasks#*-}"); do
  SLURM_ARRAY_TASK_ID=$task SLURM_NODELIST=localhost SLURM_NODEID=0 bash "$script" >> "$JOBS.log" 2>&1 || exit 1
done
echo "Submitted batch job $number"
"""


def test_ray_is_asked_for_when_it_is_missing(tmp_path: Path) -> None:
    corpus = prose.write(tmp_path / "corpus", [prose.article(0)])
    with pytest.raises(FailedPrecondition, match="ray"):
        prepare(Order((corpus,), tmp_path / "out", Rules(), Machines("ray")))


def test_the_manifest_is_json_that_names_all(tmp_path: Path) -> None:
    run(prose.write(tmp_path / "corpus", [prose.article(0)]), tmp_path / "out")
    manifest = orjson.loads((tmp_path / "out" / "prepared.json").read_bytes())
    assert manifest["files"] == [path.name for path in records.shards(tmp_path / "out")]
    assert manifest["rules"]["quality"] is True
    assert Path(manifest["corpus"][0]["file"]).is_absolute()
