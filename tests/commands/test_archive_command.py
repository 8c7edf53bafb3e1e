import pytest

from mseenet.commands.archive import parse_arguments


def test_rows_go_to_a_disk(capsys):
    with pytest.raises(SystemExit) as end:
        parse_arguments(["a.png", "--output", "s3://bucket/answers"])
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert "expected a folder on a disk, got s3://bucket/answers" in said
    assert len(said.splitlines()) == 1
