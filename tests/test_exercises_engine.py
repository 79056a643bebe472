"""The checker tells nothing written, wrong, crashing and right apart, never stops the notebook, and hints in steps.

A checker that raises stops "Run all" at the first exercise; one that calls an untouched stub wrong scolds people who
have not begun.
"""

from __future__ import annotations

import types

import pytest
from hypothesis import given, settings, strategies as st

from aigc_helpers.errors import UnknownNameError
from aigc_helpers.notebook import Exercise, Mistake, Text, check_exercise, content, exercises, gives, is_value
from aigc_helpers.notebook.exercises import answer_from_source, mark

PARAMETERS = Exercise(
    "97-1",
    Text("How many parameters has a LoRA?", "LoRA 有多少参数？"),
    tests=[
        lambda answer: None if callable(answer) else Text("Hand over the function itself.", "请交出函数本身。"),
        gives((384, 384, 8), 6144),
        gives((384, 1536, 4), 7680),
    ],
    mistakes=[
        Mistake("crashing predicate", lambda answer: answer.no_such_thing, Text("never", "从不")),
        Mistake("one matrix", gives((384, 384, 8), 3072), Text("That is A alone.", "这只是 A。")),
    ],
    hints=[Text("A is r × inputs.", "A 是 r × 输入。"), Text("Add A and B.", "把 A 与 B 相加。")],
)
RANK = Exercise("97-2", Text("Which rank?", "秩是多少？"), [is_value(8)], [Text("More.", "再大些。")])
FREEZE = Exercise(
    "97-3",
    Text("Empty the list.", "清空列表。"),
    tests=[lambda answer: (values := [1], answer(values), not values)[-1]],
    hints=[Text("clear", "清空")],
    returns_nothing=True,
)
STUB_LINES = [
    "○ exercise 97-1 not solved yet / 练习 97-1 尚未完成",
    "  Write your answer in place of `...`; run the cell again as it is to get a hint.",
    "  请用你的答案替换 `...`；想要提示，就原样再运行一次。",
]


@pytest.fixture(autouse=True)
def chapter_97(monkeypatch: pytest.MonkeyPatch):
    module = types.SimpleNamespace(EXERCISES=[PARAMETERS, RANK, FREEZE])
    monkeypatch.setattr(exercises, "exercise_module", lambda number: module if number == "97" else None)
    monkeypatch.setattr(exercises, "chapters_with", lambda kind: ["97"])
    monkeypatch.setattr(exercises, "_failures", {})


def printed(capsys: pytest.CaptureFixture, answer: object, identifier: str = "97-1") -> list[str]:
    check_exercise(identifier, answer)
    return capsys.readouterr().out.splitlines()


def right(inputs: int, outputs: int, rank: int) -> int:
    return rank * (inputs + outputs)


def stub(inputs: int, outputs: int, rank: int) -> int: ...


def stub_with_docstring(inputs: int, outputs: int, rank: int) -> int:
    """Count."""
    pass


def half_stub(inputs: int, outputs: int, rank: int) -> int:
    total = inputs + outputs
    return print(end="") or (... if total else None)


def one_matrix(inputs: int, outputs: int, rank: int) -> int:
    return rank * inputs


def wrong(inputs: int, outputs: int, rank: int) -> int:
    return 0


def crashing(inputs: int, outputs: int, rank: int) -> int:
    return inputs / 0


def leaving(inputs: int, outputs: int, rank: int) -> int:
    raise SystemExit(3)


class Unwritten:
    """An answer whose method is still to be written."""

    def forward(self): ...


@pytest.mark.parametrize(
    ("answer", "status", "mistake"),
    [
        (right, "solved", None),
        (lambda inputs, outputs, rank: float(rank * (inputs + outputs)), "solved", None),
        (None, "unsolved", None),
        (..., "unsolved", None),
        (stub, "unsolved", None),
        (stub_with_docstring, "unsolved", None),
        (half_stub, "unsolved", None),
        (Unwritten, "unsolved", None),
        ((1, None), "unsolved", None),
        ({"rank": ...}, "unsolved", None),
        (one_matrix, "wrong", "one matrix"),
        (wrong, "wrong", None),
        (6144, "wrong", None),
        (crashing, "error", None),
        (leaving, "error", None),
        (lambda: 3, "error", None),
        (lambda inputs, outputs, rank: "6144", "wrong", None),
        (lambda inputs, outputs, rank: [6144, [1]], "wrong", None),
    ],
)
def test_every_kind_of_answer_gets_its_status(answer: object, status: str, mistake: str | None):
    result = mark("97-1", answer)
    assert (result.status, result.mistake) == (status, mistake)
    assert (result.hint_en is None) == (result.hint_zh is None)


def test_a_function_meant_to_return_nothing_is_not_taken_for_a_stub():
    assert mark("97-3", lambda values: values.clear()).status == "solved"
    assert mark("97-3", lambda values: values.append(1)).status == "wrong"
    assert mark("97-3", lambda values: None).status == "unsolved"


def test_arguments_are_copied_so_that_one_test_cannot_spoil_another():
    shared = [3, 1]
    test = gives((shared,), [1, 3])
    assert test(lambda values: values.sort() or values) and shared == [3, 1]


@pytest.mark.parametrize(
    ("value", "expected", "tolerance", "agrees"),
    [
        (0.3, 0.1 + 0.2, 1e-9, True),
        (float("nan"), 1.0, 1.0, False),
        ([1, 2], (1, 2), 0, True),
        ([[1, 2]], [1, 2], 0, False),
        (["query", "value"], ["query", "value"], 0, True),
        ("query", ["query"], 0, False),
        ("query", "query", 0, True),
        (8, "8", 0, False),
        ("8", 8, 0, False),
        (True, True, 0, True),
    ],
)
def test_values_are_compared_as_a_teacher_would(value, expected, tolerance, agrees):
    assert bool(is_value(expected, tolerance)(value)) is agrees


def test_tensors_are_compared_with_their_gradient_and_in_any_format():
    import torch

    assert is_value([1.0, 2.0])(torch.tensor([1.0, 2.0], requires_grad=True))
    assert is_value(torch.ones(2))(torch.ones(2, dtype=torch.bfloat16))
    assert not is_value(torch.ones(2))(torch.zeros(2))


def test_solved_is_one_line_in_both_languages(capsys: pytest.CaptureFixture):
    assert printed(capsys, right) == ["✓ exercise 97-1 solved / 练习 97-1 完成"]


@pytest.mark.parametrize("untouched", [None, ..., stub])
def test_the_shipped_stub_prints_the_same_in_every_fresh_kernel(untouched: object, capsys: pytest.CaptureFixture):
    assert printed(capsys, untouched) == STUB_LINES


def test_each_failed_attempt_shows_one_more_hint(capsys: pytest.CaptureFixture):
    first = ["  hint 1 of 2: A is r × inputs.", "  提示 1/2：A 是 r × 输入。"]
    second = ["  hint 2 of 2: Add A and B.", "  提示 2/2：把 A 与 B 相加。"]
    assert printed(capsys, stub) == STUB_LINES
    assert printed(capsys, wrong)[1:] == first
    assert printed(capsys, one_matrix)[1:] == ["  That is A alone.", "  这只是 A。", *first]
    for _ in range(2):
        assert printed(capsys, wrong)[1:] == [*first, *second]
    assert len(printed(capsys, right)) == 1


def test_a_stuck_reader_gets_hints_by_running_the_stub_again(capsys: pytest.CaptureFixture):
    printed(capsys, stub)
    assert printed(capsys, stub)[1].startswith("  hint 1 of 2")


def test_a_recognised_mistake_comes_before_any_general_hint(capsys: pytest.CaptureFixture):
    assert printed(capsys, one_matrix)[1:] == ["  That is A alone.", "  这只是 A。"]


def test_a_crash_is_shown_with_its_message_and_both_languages(capsys: pytest.CaptureFixture):
    lines = printed(capsys, crashing)
    assert lines[1] == "  your code stopped with / 你的代码出错: ZeroDivisionError: division by zero"
    assert lines[2].startswith("  Call your function") and lines[3].startswith("  在单独的单元格")


@pytest.mark.parametrize(
    ("identifier", "message"),
    [("97-9", "exercise '97-9'. Valid: 97-"), ("42-1", "exercise '42-1'. Valid: 97-1"), ("x", "exercise 'x'")],
)
def test_an_unknown_exercise_names_the_valid_ones(identifier: str, message: str):
    with pytest.raises(UnknownNameError, match=message):
        check_exercise(identifier, 1)


@settings(max_examples=30, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.just(print),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    )
)
def test_no_answer_whatsoever_raises(answer: object):
    for identifier in ("97-1", "97-2", "97-3"):
        result = mark(identifier, answer)
        assert result.status in ("solved", "unsolved", "wrong", "error")
        assert (result.status == "solved") <= (identifier == "97-2" and answer == 8)


def test_an_exercise_cell_can_be_run_by_the_tests_of_the_book(capsys: pytest.CaptureFixture):
    source = "from aigc_helpers.notebook import check_exercise\nanswer = base + 1\ncheck_exercise('97-2', answer)"
    assert answer_from_source(source, {"base": 7}) == ("97-2", 8)
    assert capsys.readouterr().out == ""
    with pytest.raises(ValueError, match="calls check_exercise once, this one 0 times"):
        answer_from_source("answer = 1")
    with pytest.raises(NameError):
        answer_from_source("check_exercise('97-2', missing)")
    assert printed(capsys, 8, "97-2") == ["✓ exercise 97-2 solved / 练习 97-2 完成"], "the checker stayed deaf"


def test_exercises_are_found_in_the_module_of_their_chapter(monkeypatch: pytest.MonkeyPatch, tmp_path):
    monkeypatch.undo()
    assert exercises.exercises_of_chapter("96") == []
    (tmp_path / "chapters" / "exercises").mkdir(parents=True)
    (tmp_path / "chapters" / "exercises" / "96.py").write_text(
        "from aigc_helpers.notebook import Exercise, Text, is_value\n"
        "EXERCISES = [Exercise('96-1', Text('a', '甲'), [is_value(1)], [Text('b', '乙')])]\n",
        encoding="utf-8",
    )
    monkeypatch.setattr(content, "in_checkout", lambda part: tmp_path / part)
    content.content_module.cache_clear()
    assert mark("96-1", 1).status == "solved"
