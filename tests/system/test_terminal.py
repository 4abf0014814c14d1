"""What commands print, where it goes, and which exit code they have."""

import argparse
import errno
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dist_train.errors import EXIT_USER, ConfigError, DataError, TooBigError
from dist_train.system.terminal import (
    PICTURES,
    check_output,
    check_suffix,
    given_path,
    log_to_console,
    output_file,
    output_folder,
    piped,
    positive,
    report,
    wrapped,
    writing_output,
    written_whole,
)


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "", "x"])
def test_numbers_of_things_are_whole_and_above_0(text: str) -> None:
    assert positive("12") == 12
    with pytest.raises(argparse.ArgumentTypeError, match=f"'{text}' must be a whole number above 0"):
        positive(text)


@pytest.mark.parametrize("of_option", [given_path, output_file, output_folder])
def test_an_empty_shell_variable_is_not_the_current_folder(of_option: Callable[[str], Path]) -> None:
    assert of_option("new") == Path("new")
    with pytest.raises(argparse.ArgumentTypeError, match="an empty path is given"):
        of_option("")


def test_an_output_that_cannot_be_written_is_a_mistake_in_the_command(tmp_path: Path) -> None:
    check_output("--json", tmp_path / "new" / "a.json")
    assert (tmp_path / "new").is_dir(), "the folder is there, the file is not"
    assert not (tmp_path / "new" / "a.json").exists()
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=rf"--json \({tmp_path}\) is a folder; name a file in it"):
        check_output("--json", tmp_path)
    path = tmp_path / "file" / "a.json"
    with pytest.raises(ConfigError, match=rf"--json \({path}\) cannot be written: (Not a directory|File exists)"):
        check_output("--json", path)
    with (
        pytest.raises(ConfigError, match=r"--out \(a\) cannot be written: the disk"),
        writing_output("--out", Path("a")),
    ):
        raise OSError("the disk")


def test_a_folder_is_no_output_file_and_a_file_no_output_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert output_file(str(tmp_path / "a.csv")) == tmp_path / "a.csv"
    assert output_folder(f"{tmp_path}/new/") == tmp_path / "new"
    for text in (str(tmp_path), f"{tmp_path}/new/", "."):
        with pytest.raises(argparse.ArgumentTypeError, match=f"'{text}' is a folder; name a file in it"):
            output_file(text)
    with pytest.raises(argparse.ArgumentTypeError, match="is not a folder; name another place"):
        output_folder(str(tmp_path / "file"))


def _python(code: str, stdout: int = subprocess.PIPE) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run([sys.executable, "-c", code], stdout=stdout, stderr=subprocess.PIPE, timeout=60)


def test_the_suffix_of_an_output_says_what_is_written() -> None:
    check_suffix("--picture", Path("a.PNG"), PICTURES)
    for suffixes, known in (
        ((".png",), ".png"),
        ((".html", ".htm"), ".html or .htm"),
        (PICTURES, "one of .png, .svg, .pdf"),
    ):
        with pytest.raises(ConfigError, match=rf"^--out \(a.gif\) must end in {known} here$"):
            check_suffix("--out", Path("a.gif"), suffixes, " here")


def test_a_reader_may_leave_early() -> None:
    code = "import sys; from dist_train.system.terminal import piped; "
    code += "sys.exit(piped(lambda: [print('x' * 9999) for _ in range(99)] and 0))"
    reader, writer = os.pipe()
    os.close(reader)
    done = _python(code, writer)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


def test_torchrun_gets_the_error_of_a_rank_that_prints_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It ends rank 0 when another rank has failed, so that rank 0 may print nothing either."""
    told = tmp_path / "error.json"
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(told))
    assert report(ConfigError("`optim.lr` is wrong")) == 2
    assert capsys.readouterr().err == ""
    assert json.loads(told.read_text())["message"]["message"] == "`optim.lr` is wrong"
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "gone" / "error.json"))
    assert report(ConfigError("a full disk is not another error")) == 2


def test_ctrl_c_ends_a_command_with_one_word() -> None:
    code = "import os, signal; from dist_train.system.terminal import piped; "
    done = _python(code + "piped(lambda: [os.kill(os.getpid(), signal.SIGINT)] and 0)")
    assert (done.returncode, done.stderr) == (-signal.SIGINT, b"interrupted\n")
    caught = "try: piped(lambda: [os.kill(os.getpid(), signal.SIGINT)] and 0)\nexcept KeyboardInterrupt: 1 / 0"
    assert (
        b"ZeroDivisionError"
        in _python(f"import os, signal\nfrom dist_train.system.terminal import piped\n{caught}").stderr
    )


def test_a_command_that_is_read_to_the_end_keeps_its_exit_code() -> None:
    assert (
        _python("import sys; from dist_train.system.terminal import piped; sys.exit(piped(lambda: 7))").returncode == 7
    )


def test_names_that_are_not_utf8_are_printed_as_their_bytes() -> None:
    code = "from dist_train.system.terminal import print_any_name; print_any_name(); print('a\\udce4')"
    assert _python(code).stdout == b"a\xe4\n"


@pytest.mark.parametrize("rank", ["0", "1"])
def test_an_error_of_all_ranks_is_printed_once(
    rank: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", rank)
    assert report(DataError("two\nlines")) == EXIT_USER
    assert capsys.readouterr().err == ("error: two\nerror: lines\n" if rank == "0" else "")
    report(TooBigError("of one rank"))
    assert capsys.readouterr().err == "error: of one rank\n"


def test_rank_0_logs_and_others_warn_under_their_number(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = logging.getLogger("dist_train")
    for name in ("handlers", "level", "propagate"):
        monkeypatch.setattr(root, name, getattr(root, name))
    for rank in (0, 1):
        log_to_console(rank)
        logging.getLogger("dist_train.any").info("news of %d", rank)
        logging.getLogger("dist_train.any").warning("trouble of %d", rank)
    lines = [line.partition(" ")[2] for line in capsys.readouterr().out.splitlines()]
    assert lines == ["news of 0", "trouble of 0", "[rank 1] trouble of 1"]


def test_long_lines_are_wrapped_between_words() -> None:
    text = wrapped(["short", "classes: " + ", ".join(["long-name"] * 20)])
    first, *rest = text.splitlines()
    assert first == "short"
    assert max(map(len, rest)) <= 100
    assert len(rest) == 3
    assert all(line.startswith("  long-name") for line in rest[1:])


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            PermissionError(errno.EACCES, "Permission denied", "/a/b"),
            "/a/b: Permission denied; check the path, and the rights",
        ),
        (OSError(errno.ENAMETOOLONG, "File name too long", "xxx"), "xxx: File name too long; check the path"),
        (OSError(errno.ENOSPC, "No space left on device", "/a/b"), "/a/b: No space left on device; make room there"),
    ],
)
def test_a_path_that_cannot_be_used_is_a_mistake_of_the_user(
    error: OSError, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails() -> int:
        raise error

    assert piped(fails) == EXIT_USER
    assert capsys.readouterr().err.startswith(f"error: {said}")


def test_a_file_that_is_missing_may_be_a_mistake_of_ours() -> None:
    with pytest.raises(FileNotFoundError):
        piped(lambda: os.stat("/nowhere/at/all").st_size)


def test_an_output_may_be_a_link_or_a_device(tmp_path: Path) -> None:
    (tmp_path / "link.json").symlink_to("file.json")
    with written_whole("--json", tmp_path / "link.json") as file:
        file.write(b"{}")
    assert (tmp_path / "link.json").is_symlink()
    assert (tmp_path / "file.json").read_bytes() == b"{}"
    with written_whole("--json", Path("/dev/null")) as file:
        file.write(b"{}")
    assert Path("/dev/null").is_char_device()


def test_a_name_that_no_file_can_have_is_refused_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be written: File name too long; choose another place"):
        check_output("--json", tmp_path / ("x" * 300))
