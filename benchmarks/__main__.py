"""`python -m benchmarks`: the list of the benchmark commands."""

import ast
import pathlib
import sys


def commands() -> dict[str, str]:
    """Name -> the first line of its docstring, of every module here that is a command."""
    found = {}
    for path in sorted(pathlib.Path(__file__).parent.glob("*.py")):
        source = path.read_text()
        if path.stem != "__main__" and "\ndef main(" in source:
            about = ast.get_docstring(ast.parse(source)) or ""
            found[path.stem] = about.split("\n")[0].split(": `python")[0].rstrip(".")
    return found


def main(argv: list[str] | None = None) -> None:
    words, known = sys.argv[1:] if argv is None else argv, commands()
    if words and words[0] not in ("--help", "-h"):
        hint = f"python -m benchmarks.{words[0]}" if words[0] in known else ", ".join(known)
        sys.exit(f"benchmarks: {words[0]!r} is not taken here; use {hint}")
    width = max(map(len, known))
    for name, line in known.items():
        print(f"python -m benchmarks.{name:{width}s}  {line}")
    print("\nEach takes --help; those that measure --json FILE and --quick.")


if __name__ == "__main__":
    main()
