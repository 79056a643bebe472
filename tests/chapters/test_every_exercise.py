"""Every exercise can be solved, is not solved as shipped, and recognises the mistakes that it claims to.

An exercise whose own reference fails, or whose hint never shows, is found by a reader who then doubts themselves.
"""

from __future__ import annotations

import ast
from contextlib import nullcontext, suppress

import pytest

from aigc_helpers.notebook import Exercise, Text
from aigc_helpers.notebook.exercises import answer_from_source, exercise_module, exercises_of_chapter, mark
from aigc_helpers.publishing.source import Chapter, CodeCell, chapter_paths, read_chapter, solved_source, stub_source

CHAPTERS = [read_chapter(path) for path in chapter_paths()]
CELLS = [(chapter, index) for chapter in CHAPTERS for index in range(len(chapter.exercise_cells))]
EXERCISES = [exercise for chapter in CHAPTERS for exercise in exercises_of_chapter(chapter.number)]
LEAST_EXERCISES, LEAST_HINTS = 3, 2

cells = pytest.mark.parametrize(
    ("chapter", "index"), CELLS, ids=[chapter.exercise_cells[index].exercise for chapter, index in CELLS]
)
exercises = pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.identifier)


def names_before(chapter: Chapter, cell: CodeCell) -> dict[str, object]:
    """Return what an exercise cell finds defined: what the cells before it import, and nothing more."""
    names: dict[str, object] = {}
    before = chapter.code_cells[: chapter.code_cells.index(cell)]
    for earlier in before:
        # A cell that is meant to fail may fail at an import; what it imports before that is there.
        with suppress(ImportError) if "raises-exception" in earlier.tags else nullcontext():
            for statement in ast.parse(earlier.source).body:
                if isinstance(statement, (ast.Import, ast.ImportFrom)):
                    exec(compile(ast.Module([statement], []), "<imports>", "exec"), names)
    return names


def answer_of(chapter: Chapter, index: int, source: str) -> tuple[str, object]:
    return answer_from_source(source, names_before(chapter, chapter.exercise_cells[index]))


def has_chinese(text: str) -> bool:
    return any("\u4e00" <= letter <= "\u9fff" for letter in text)


def wrong_answers(chapter: Chapter, identifier: str) -> list[tuple[object, str]]:
    return exercise_module(chapter.number).WRONG_ANSWERS.get(identifier, [])


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.name)
def test_cells_and_module_name_the_same_exercises(chapter: Chapter):
    in_cells = [cell.exercise for cell in chapter.exercise_cells]
    in_module = [exercise.identifier for exercise in exercises_of_chapter(chapter.number)]
    assert in_cells == in_module
    assert len(set(in_cells)) == len(in_cells) >= LEAST_EXERCISES
    assert all(identifier.startswith(f"{chapter.number}-") for identifier in in_cells)


@cells
def test_the_reference_is_solved(chapter: Chapter, index: int):
    result = mark(*answer_of(chapter, index, solved_source(chapter, index)))
    assert result.status == "solved", result


@cells
def test_the_stub_is_unsolved(chapter: Chapter, index: int):
    result = mark(*answer_of(chapter, index, stub_source(chapter.exercise_cells[index])))
    assert result.status == "unsolved", result


@cells
def test_each_wrong_answer_is_recognised_as_its_mistake(chapter: Chapter, index: int):
    cell = chapter.exercise_cells[index]
    for wrong, mistake in wrong_answers(chapter, cell.exercise):
        # A string is what the reader would write in the solution's place; anything else is the answer itself.
        answer = answer_of(chapter, index, stub_source(cell, wrong))[1] if isinstance(wrong, str) else wrong
        result = mark(cell.exercise, answer)
        assert result.status in ("wrong", "error"), (wrong, result)
        assert result.mistake == mistake, (wrong, result)


@cells
def test_each_mistake_is_made_by_a_wrong_answer(chapter: Chapter, index: int):
    identifier = chapter.exercise_cells[index].exercise
    exercise = next(each for each in exercises_of_chapter(chapter.number) if each.identifier == identifier)
    named = {mistake for _, mistake in wrong_answers(chapter, identifier)}
    assert named == {mistake.name for mistake in exercise.mistakes}
    assert named, "no typical mistake is recognised"


@exercises
def test_hints_are_staged_and_everything_is_said_in_both_languages(exercise: Exercise):
    assert len(exercise.hints) >= LEAST_HINTS
    texts: list[Text] = [exercise.question, *exercise.hints, *(mistake.hint for mistake in exercise.mistakes)]
    for text in texts:
        assert text.en.strip() and not has_chinese(text.en), text
        assert has_chinese(text.zh), text
