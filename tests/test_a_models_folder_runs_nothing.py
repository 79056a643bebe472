"""A model's or an adapter's folder may name code of its own; it is not run, and nobody is asked whether it may be.

transformers asks on the terminal, and waits for the answer; whoever is used to type y has run the code of a stranger.
"""

from __future__ import annotations

import ast
import json
import shutil
from pathlib import Path

import pytest

from aigc_helpers.errors import ReaderError
from aigc_helpers.paths import DATA, REPOSITORY
from aigc_helpers.text import load_translator


def calls_that_choose_a_class(path: Path) -> list[ast.Call]:
    return [
        node
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "from_pretrained"
        and isinstance(node.func.value, ast.Name)
        and (node.func.value.id.startswith("Auto") or node.func.value.id.endswith("Pipeline"))
    ]


def test_whoever_loads_by_what_a_folder_says_trusts_no_code_in_it() -> None:
    calls = [
        (path.name, call.lineno, {keyword.arg: keyword.value for keyword in call.keywords})
        for path in (REPOSITORY / "aigc_helpers").rglob("*.py")
        for call in calls_that_choose_a_class(path)
    ]
    assert len(calls) > 5
    for name, line, options in calls:
        trust = options.get("trust_remote_code")
        assert isinstance(trust, ast.Constant) and trust.value is False, f"{name}, line {line}"


@pytest.mark.slow
def test_an_adapters_tokenizer_with_code_of_its_own_is_refused_unasked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = shutil.copytree(DATA / "price_adapter", tmp_path / "adapter")
    canary = tmp_path / "canary"
    (adapter / "own.py").write_text(f"open({str(canary)!r}, 'w').close()\nclass Own: pass\n", encoding="utf-8")
    settings = json.loads((adapter / "tokenizer_config.json").read_text(encoding="utf-8"))
    settings |= {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["own.Own", "own.Own"]}}
    (adapter / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")

    def asked(*_: object) -> str:
        raise AssertionError("somebody was asked")

    monkeypatch.setattr("builtins.input", asked)
    with pytest.raises(ReaderError, match="the tokenizer in .* does not load, and nothing of it was run"):
        load_translator(adapter=adapter)
    assert not canary.exists()
