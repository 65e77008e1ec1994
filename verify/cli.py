"""The command line. Everything heavy is imported by the command that needs it.

Exit codes: 0, as expected; 1, a verdict differs from what its claim expects; 2, a bad
argument or file; 130, interrupted.
"""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    from asymptest.verify.claim import Verdict

REPORT = Path("results/report.json")
INTERRUPTED = 130  # 128 + SIGINT, as shells have it

app = typer.Typer(
    name="asymptest",
    help="Check limit theorems about transformers.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich would take longer to load than the rest
)


class ProfileName(StrEnum):
    """How much to spend."""

    SMOKE = "smoke"
    QUICK = "quick"
    FULL = "full"


class FormatName(StrEnum):
    """How a derivation is written."""

    TEXT = "text"
    LATEX = "latex"
    MATHML = "mathml"
    MARKDOWN = "markdown"


class Limit(StrEnum):
    """What of a network grows."""

    WIDTH = "width"
    SCALE = "scale"


def at_least(least: int) -> "Callable[[int | None], int | None]":
    """Return a check of an option that says what it got, which typer's own does not."""

    def checked(value: int | None) -> int | None:
        if value is not None and value < least:
            raise typer.BadParameter(f"must be at least {least}; got {value}")
        return value

    return checked


Json = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]
Seed = Annotated[
    int, typer.Option(callback=at_least(0), help="All randomness derives from it.")
]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; what a user can mend is said in a line."""
    given = sys.argv[1:] if arguments is None else [*arguments]
    try:
        code = app(
            args=given or ["--help"], prog_name="asymptest", standalone_mode=False
        )
    except typer.Exit as stop:
        return stop.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted", INTERRUPTED)
    except BrokenPipeError:  # asymptest claims | head
        # What is still buffered has nowhere to go; the interpreter must not try.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        message = _message(error)
        if message is None:
            raise
        return _fail(message, 2)
    return code if isinstance(code, int) else 0


def _fail(message: str, code: int) -> int:
    print("asymptest:", " ".join(message.split()), file=sys.stderr)
    return code


def _message(error: Exception) -> str | None:
    """Return what to tell the user, or None if the error is a defect of ours."""
    # typer's usage errors have no public base class, ours would load SymPy.
    if hasattr(error, "format_message"):
        text = error.format_message().rstrip(".")  # pyright: ignore
        context = getattr(error, "ctx", None)
        path = context.command_path if context else "asymptest"
        return f"{text}; see `{path} --help`"
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}; check the path"
    names = {kind.__name__ for kind in type(error).__mro__}
    if isinstance(error, OSError) or "AsymptestError" in names:
        return str(error)
    return None


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print it.")] = False,
) -> None:
    if version:
        from importlib import metadata

        print("asymptest", metadata.version("asymptest"))
        raise typer.Exit


@app.command()
def claims(
    prefixes: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PREFIX]...", help="Beginnings of names, or module:name."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """List what is claimed, where, and what is expected."""
    from asymptest.verify.select import load, select
    from asymptest.verify.show import claims_table, console

    found, broken = [], []
    for reference in select(prefixes or ()):
        try:
            found.append(load(reference))
        except Exception as error:  # the others are still listed
            broken.append(f"{reference.name}: {type(error).__name__}: {error}")
    if as_json:
        from asymptest.verify.results import claim_to_json, dumps

        for claim in found:
            print(dumps(claim_to_json(claim)))
    else:
        screen = console()
        screen.print(claims_table(found, screen.width))
    for line in broken:
        _fail(line, 1)
    if broken:
        raise typer.Exit(1)


@app.command()
def check(
    targets: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PREFIX|MODULE:NAME]...",
            help="Beginnings of names, or your own claims; all claims if none is given.",
        ),
    ] = None,
    profile: Annotated[ProfileName, typer.Option(help="How much to spend.")] = (
        ProfileName.QUICK
    ),
    seed: Seed = 0,
    jobs: Annotated[
        int | None,
        typer.Option(callback=at_least(1), help="Processes; one a core if not given."),
    ] = None,
    out: Annotated[Path, typer.Option(help="The report to write.")] = REPORT,
    as_json: Json = False,
) -> None:
    """Check claims; exit 1 if a verdict is unexpected."""
    from asymptest.verify.results import dumps, verdict_to_json
    from asymptest.verify.run import run_claims
    from asymptest.verify.select import select

    references = select(targets or ())

    def note(message: str) -> None:
        print("asymptest:", message, file=sys.stderr, flush=True)

    with _progress(len(references)) as advance:

        def known(verdict: "Verdict") -> None:
            if as_json:
                print(dumps(verdict_to_json(verdict)), flush=True)
            advance(verdict)

        try:
            verdicts = run_claims(
                references, profile.value, seed, jobs, out, known, note
            )
        except KeyboardInterrupt:
            note(
                f"interrupted; the verdicts so far are in {out}.partial, and the same "
                f"command goes on from there"
            )
            raise typer.Exit(INTERRUPTED) from None
    if not as_json:
        _show(verdicts)
        print(f"Report: {out}")
    if not all(verdict.agrees for verdict in verdicts):
        raise typer.Exit(1)


@contextmanager
def _progress(total: int) -> "Iterator[Callable[[Verdict], None]]":
    """Yield what to call with each verdict: a bar on a terminal, nothing elsewhere."""
    from asymptest.verify.show import console

    screen = console(stderr=True)
    if not screen.is_terminal:
        yield lambda _: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeElapsedColumn as Elapsed

    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        Elapsed(),
        TextColumn("{task.fields[last]}"),
    )
    with Progress(*columns, console=screen, transient=True) as bar:
        task = bar.add_task("", total=total, last="")
        yield lambda v: bar.update(task, advance=1, last=f"{v.name}: {v.verdict}")


def _show(verdicts: "Sequence[Verdict]") -> None:
    from asymptest.verify.show import (
        console,
        mismatch,
        refutations,
        summary,
        verdicts_table,
    )

    screen = console()
    screen.print(verdicts_table(verdicts, screen.width))
    for verdict in verdicts:
        if not verdict.agrees:
            print(mismatch(verdict, screen.width), end="\n\n")
    for paragraph in refutations(verdicts, screen.width):
        print(paragraph)
    print(summary(verdicts))


@app.command()
def derive(
    name: Annotated[
        str,
        typer.Argument(
            help="An activation, as leaky_relu(0.2), or module:network; or `all`, "
            "every activation with a closed form."
        ),
    ],
    form: Annotated[FormatName, typer.Option("--format", help="What to print.")] = (
        FormatName.TEXT
    ),
    limit: Annotated[
        Limit,
        typer.Option(
            help="Of a network: its kernel as the width grows, or what is left of it as "
            "the scale of all parameters grows."
        ),
    ] = Limit.WIDTH,
    out: Annotated[
        Path | None, typer.Option(help="Write pages into a folder instead.")
    ] = None,
) -> None:
    """Derive an activation's dual, or the limit of a network."""
    from asymptest.verify.derivation import derive as derivation
    from asymptest.verify.derivation import documented
    from asymptest.verify.pages import render, write
    from asymptest.verify.show import console

    for target in documented() if name == "all" else (name,):
        if out is None:
            found = derivation(target, limit.value)
            print(render(found, form.value, console().width))
        else:
            print(write(derivation(target, limit.value), form.value, out))


@app.command()
def module(
    target: Annotated[
        str,
        typer.Argument(
            help="module:factory, a function of width and seed that builds a torch "
            "module."
        ),
    ],
    widths: Annotated[
        list[int], typer.Option(help="Of the modules; several, one after the other.")
    ],
    more: Annotated[list[int] | None, typer.Argument(hidden=True)] = None,
    text: Annotated[
        str, typer.Option(help="A text file, or `default` for the topics of help().")
    ] = "default",
    positions: Annotated[
        int, typer.Option(callback=at_least(1), help="Words of a sequence.")
    ] = 8,
    sequences: Annotated[
        int, typer.Option(callback=at_least(1), help="Their number.")
    ] = 4,
    mask: Annotated[
        str | None,
        typer.Option(help="full or causal: what attention of torch.nn is called with."),
    ] = None,
    resolution: Annotated[
        float, typer.Option(help="Half-width of the band around a prediction.")
    ] = 0.05,
    bias: Annotated[
        float | None,
        typer.Option(
            help="What a finite width may be off; a quarter of the resolution."
        ),
    ] = None,
    each: Annotated[
        bool, typer.Option("--each", help="Judge each width by itself.")
    ] = False,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Compare a torch module's layers with its description."""
    from asymptest.verify.module_command import main as run

    code = run(
        target,
        [*widths, *(more or ())],
        text=text,
        positions=positions,
        sequences=sequences,
        mask=mask,
        resolution=resolution,
        bias=bias,
        each=each,
        seed=seed,
        as_json=as_json,
    )
    raise typer.Exit(code)


@app.command()
def kernel(
    target: Annotated[str, typer.Argument(help="The network, as module:network.")],
    input_: Annotated[
        Path | None,
        typer.Option("--input", help="K0, the input's kernel, a .npy file."),
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(
            help="A text file, or `default` for the topics of Python's help()."
        ),
    ] = None,
    tokens: Annotated[
        int, typer.Option(callback=at_least(1), help="Words of the text to take.")
    ] = 64,
    out: Annotated[
        Path | None, typer.Option(help="Save arrays to a .npz file.")
    ] = None,
    width: Annotated[
        int | None,
        typer.Option(
            callback=at_least(1), help="Also run finite networks of this width."
        ),
    ] = None,
    copies: Annotated[
        int, typer.Option(callback=at_least(1), help="Number of finite networks.")
    ] = 16,
    rtol: Annotated[
        float | None,
        typer.Option(
            help="Standard error to reach where logits are random, relative to the largest "
            "entry.  [default: 1e-3, unless --samples is given]"
        ),
    ] = None,
    samples: Annotated[
        int | None, typer.Option(help="Draws of random logits; with --rtol, the most.")
    ] = None,
    seed: Seed = 0,
) -> None:
    """Evaluate a network's kernel at all depths."""
    if (input_ is None) == (text is None):
        raise typer.BadParameter("give either --input K0.npy or --text FILE")
    import numpy as np

    from asymptest.numerics import kernels_with_error
    from asymptest.verify import evaluate
    from asymptest.verify.derivation import load_network
    from asymptest.verify.show import console, kernels_table
    from asymptest.verify.text import TokenNetwork, token_kernel

    network = load_network(target)
    arrays: dict[str, Any] = {}
    if text is not None:
        ids = evaluate.read_tokens(text, tokens)
        K0, arrays["tokens"] = token_kernel(ids), ids
        given = f"{len(ids)} tokens, {ids.max() + 1} different"
    else:
        assert input_ is not None
        ids, K0 = None, evaluate.read_kernel(input_)
        given = f"{len(K0)} positions from {input_}"
    if width is not None and ids is not None:
        TokenNetwork(network, int(ids.max()) + 1, width)  # fails before the long part
    values, errors = kernels_with_error(
        network, K0, samples=samples, rng=seed, rtol=rtol
    )
    arrays |= {"kernels": values, "standard_error": errors}
    print(given)
    console().print(kernels_table(values, errors))
    if width is not None:
        if ids is None:
            sampler = evaluate.kernel_sampler(network, K0, width, seed)
        else:
            sampler = evaluate.token_sampler(network, ids, width, seed)
        found = evaluate.compare(values[-1], errors[-1], sampler, width, copies)
        arrays |= {"finite_mean": found.mean, "finite_error": found.error}
        z = "" if found.z is None else f", largest z {found.z:.2f}"
        print(
            f"{copies} finite networks of width {width}: largest relative difference "
            f"{found.relative:.2g}{z}"
        )
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        with out.open("wb") as file:  # savez itself would append .npz to the name
            np.savez(file, **arrays)
        print(f"Saved {', '.join(arrays)} to {out}")


@app.command()
def figures(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="All if none is given."),
    ] = None,
    out: Annotated[Path, typer.Option(help="The folder to write to.")] = Path(
        "results"
    ),
    results: Annotated[
        Path | None,
        typer.Option(help=f"The report to read; {REPORT}, where there is one."),
    ] = None,
    run: Annotated[
        bool,
        typer.Option(
            "--run", help="For `training`: train its models anew, not the saved runs."
        ),
    ] = False,
    profile: Annotated[
        ProfileName, typer.Option(help="What --run trains: all, or its smoke profile.")
    ] = ProfileName.FULL,
) -> None:
    """Draw figures as PDF and PNG."""
    from importlib import import_module

    if run:
        if names != ["training"]:
            raise typer.BadParameter("--run is for one figure: figures training --run")
        from asymptest.verify.training.command import main as train

        folder = out / "training"
        kind = "deep-smoke" if profile == ProfileName.SMOKE else "deep"
        if train(["--profile", kind, "--out", str(folder)]):
            raise typer.Exit(1)
        draw_runs = import_module("asymptest.paper_figures.training").draw_runs
        for path in draw_runs(out, None, folder):
            print(path)
        return
    # By name: verify/ may not depend on paper_figures/, which depends on it.
    draw = import_module("asymptest.paper_figures").draw
    report = REPORT if results is None and REPORT.exists() else results
    for path in draw(names or None, out, report):
        print(path)


@app.command()
def report(
    results: Annotated[Path, typer.Option(help="The report to read.")] = REPORT,
    as_json: Json = False,
) -> None:
    """Print a saved report; nothing is run."""
    from asymptest.verify.results import dumps, read_report, verdict_to_json

    verdicts = read_report(results)
    if as_json:
        for verdict in verdicts:
            print(dumps(verdict_to_json(verdict)))
    else:
        _show(verdicts)


@app.command()
def bench() -> None:
    """Run the benchmarks in the working folder."""
    folder = Path("benchmarks")
    if not any(folder.glob("*.py")):
        raise typer.BadParameter(
            f"{folder.resolve()} holds no benchmark; run this in a checkout of asymptest"
        )
    command = [sys.executable, "-m", "pytest", str(folder), "-q"]
    raise typer.Exit(subprocess.run(command, check=False).returncode)


if __name__ == "__main__":  # spawned workers load this file under another name
    sys.exit(main())
