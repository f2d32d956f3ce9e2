"""The logger and its level."""

import logging
import re

import pytest

import megengine_lite as lite
from megengine_lite.errors import LiteTypeError, LiteValueError
from megengine_lite.log import logger, warn


@pytest.fixture(autouse=True)
def default_level():
    handlers = list(logger.handlers)
    yield
    logger.handlers[:] = handlers
    lite.set_log_level(lite.LiteLogLevel.ERROR)


@pytest.mark.parametrize("level", list(lite.LiteLogLevel))
def test_level_when_set_is_reported(level):
    lite.set_log_level(level)
    assert lite.get_log_level() is level


def test_level_number_is_taken():
    lite.set_log_level(2)
    assert lite.get_log_level() == lite.LiteLogLevel.WARN
    assert logger.level == logging.WARNING


@pytest.mark.parametrize("level", [-1, 4, 7])
def test_level_out_of_range(level):
    with pytest.raises(LiteValueError, match=str(level)):
        lite.set_log_level(level)


@pytest.mark.parametrize("level", ["WARN", None, 1.0, True])
def test_level_of_another_type(level):
    with pytest.raises(LiteTypeError):
        lite.set_log_level(level)


def test_level_set_on_the_logger_is_seen():
    logger.setLevel(logging.INFO)
    assert lite.get_log_level() is lite.LiteLogLevel.INFO
    logger.setLevel(logging.CRITICAL)
    assert lite.get_log_level() is lite.LiteLogLevel.ERROR


def test_lines_go_to_stderr_in_the_form_of_the_original(capsys, monkeypatch):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # pytest has some
    lite.set_log_level(lite.LiteLogLevel.INFO)
    logger.info("hello %d", 3)
    logger.debug("not shown")
    line = capsys.readouterr().err
    assert re.fullmatch(r"LITE\[INF\] \d\d:\d\d:\d\d\.\d{6} hello 3\n", line)


def test_lines_and_warnings_do_not_tell_a_terminal_what_to_do(capsys, monkeypatch):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    lite.set_log_level(lite.LiteLogLevel.INFO)
    logger.info("input %s", "a\x1b[2J\r\x9b")
    assert capsys.readouterr().err.endswith(" input a\\x1b[2J\\r\\x9b\n")
    with pytest.warns(lite.LiteWarning, match=re.escape("input a\\x1b[2J")):
        warn("input a\x1b[2J")


def test_lines_go_to_the_handlers_of_the_program_alone(capsys, caplog):
    lite.set_log_level(lite.LiteLogLevel.WARN)
    logging.getLogger().addHandler(caplog.handler)
    logger.warning("once")
    assert capsys.readouterr().err == ""
    assert [r.getMessage() for r in caplog.records] == ["once"]


def test_warning_points_at_the_line_of_the_program():
    with pytest.warns(lite.LiteWarning, match="TensorRT") as caught:
        lite.LiteGlobal.dump_tensorrt_cache()
    assert caught[0].filename == __file__


def test_nothing_is_printed_before_a_level_is_set(capsys):
    logger.handlers[:] = [h for h in logger.handlers if isinstance(h, logging.NullHandler)]
    logger.error("nobody listens")
    assert capsys.readouterr().err == ""
