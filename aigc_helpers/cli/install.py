"""``aigc install`` and ``aigc bundle``: weight files from anywhere, verified, and put where they belong."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from aigc_helpers.arguments import named
from aigc_helpers.errors import ReaderError

if TYPE_CHECKING:
    from aigc_helpers.store import InstalledFile


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add both commands to the others."""
    install = commands.add_parser("install", help="install a model, data set or weight file, verified by sha256")
    install.add_argument(
        "source",
        metavar="NAME | FILE | URL",
        help="a name from aigc catalog; a weight file, folder, or zip of aigc bundle; http(s)://…; "
        "hub:owner/name[@revision][/file]; or the same with modelscope:",
    )
    install.add_argument("--sha256", help="what the file must have, when nobody else knows")
    install.add_argument("--layout", default="aigc", help="aigc (our own store), a1111, forge or comfyui")
    install.add_argument("--to", type=named, metavar="DIR", help="the folder of A1111, Forge or ComfyUI")
    _add_profile(install)
    install.add_argument(
        "--trust-code", action="store_true", help="let a repository of PyTorch Hub run its code on this machine"
    )
    install.add_argument("--json", action="store_true", help="print what was installed, or why not, as JSON")
    install.set_defaults(function=_install)

    bundle = commands.add_parser("bundle", help="pack assets into a zip, for a machine without a network")
    bundle.add_argument("names", nargs="+", metavar="NAME", help="a name from aigc catalog")
    bundle.add_argument("file", type=named, metavar="FILE.zip", help="the zip to write")
    _add_profile(bundle)
    bundle.set_defaults(function=_bundle)


def _add_profile(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--profile", help="embedded or full (by default what AIGC_PROFILE or this machine says)")


def _install(options: argparse.Namespace) -> int:
    from aigc_helpers.store import without_secrets

    try:
        result, text = _installed(options)
    except ReaderError as error:
        if options.json:
            print(json.dumps({"source": without_secrets(options.source), "refused": str(error)}, ensure_ascii=False))
        raise
    print(json.dumps(result, ensure_ascii=False) if options.json else text)
    return 0


def _installed(options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from aigc_helpers.store import install_any

    installed = install_any(
        options.source,
        options.profile,
        sha256=options.sha256,
        layout=options.layout,
        to=options.to,
        trusted=options.trust_code,
    )
    if not isinstance(installed, tuple):
        return _report(installed)
    assets = [vars(asset) | {"folder": str(asset.folder)} for asset in installed]
    text = "\n".join(f"✓ {asset}: {asset.folder}" for asset in installed)
    return assets[0] if len(assets) == 1 else {"assets": assets}, text


def _report(installed: InstalledFile) -> tuple[dict[str, Any], str]:
    what = f"{installed.kind} for {installed.family}" if installed.family else installed.kind
    state = "already there" if installed.already_there else "installed"
    lines = [f"✓ {what}, {state}: {installed.path}"]
    lines += [f"  sha256  {installed.sha256}"] if installed.sha256 else []
    lines += [f"  remark  {remark}" for remark in installed.remarks]
    return vars(installed) | {"path": str(installed.path)}, "\n".join(lines)


def _bundle(options: argparse.Namespace) -> int:
    from aigc_helpers.store import bundle

    assets = bundle(options.names, options.file, profile=options.profile)
    names = ", ".join(f"{asset.name} ({asset.profile})" for asset in assets)
    print(f"✓ {names}: {options.file}, {options.file.stat().st_size / 1e6:,.1f} MB")
    print(f"  On the other machine: aigc install {options.file.name}")
    return 0
