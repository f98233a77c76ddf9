"""A file that others read is never half written, nor closed to them."""

import pytest

from fabfile.files import replace_file


def test_a_file_is_replaced_whole_and_readable_by_others(tmp_path):
    path = tmp_path / "x.prom"
    replace_file(path, "a\n")
    replace_file(path, "b\n")
    assert path.read_text() == "b\n"
    assert path.stat().st_mode & 0o444 == 0o444
    assert [each.name for each in tmp_path.iterdir()] == ["x.prom"]


def test_nothing_is_left_of_a_file_that_could_not_be_replaced(tmp_path):
    (tmp_path / "x.prom").mkdir()
    with pytest.raises(IsADirectoryError):
        replace_file(tmp_path / "x.prom", "a\n")
    assert [each.name for each in tmp_path.iterdir()] == ["x.prom"]


def test_a_mode_that_is_wanted_wins_over_the_umask(tmp_path):
    path = tmp_path / "x.prom"
    replace_file(path, "a\n", 0o644)
    assert path.stat().st_mode & 0o777 == 0o644
