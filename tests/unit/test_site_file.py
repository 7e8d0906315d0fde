"""Protects the site file: right ones load, wrong ones are refused with file, line, key, value and rule."""

from __future__ import annotations

import ssl
from pathlib import Path

import msgspec
import numpy as np
import pytest

from streamproc.cli.root import app
from streamproc.config import BrokerTable, SiteConfig
from streamproc.errors import ConfigError
from streamproc.shell.models import SessionScorer
from streamproc.shell.site_file import client_settings, load_site, parse_site, secret
from streamproc.shell.site_lines import key_lines, line_of
from streamproc.shell.site_rules import generic_rules, rule_names
from streamproc.training.anomaly import Recorded, fit_area

ROOT = Path(__file__).resolve().parents[2]
POINT = '[[point]]\nid = "P"\narea = "north"\nunit = "MW"\n'
RESOURCE = (
    '[[resource]]\nid = "B"\nkind = "storage"\npoint = "P"\nunit = "MW"\nvalue_min = -1\nvalue_max = 1\n'
    "ramp_per_min = 1\ncost = 1\neffect = { P = 1.0 }\n"
)


def refused(text: str) -> str:
    with pytest.raises(ConfigError) as error:
        parse_site(text, "s.toml")
    return str(error.value)


def test_an_empty_file_is_a_valid_site() -> None:
    assert parse_site("") == SiteConfig()
    assert load_site(None) == SiteConfig()


def test_the_example_is_valid_and_shows_every_table_and_key() -> None:
    example = ROOT / "deploy" / "site.example.toml"
    config = load_site(example)
    text = example.read_text()
    assert config.point[0].limit_high == 120.0
    assert config.area[0].nominal_kv["SUBSTATION A"] == 380.0
    for table in (
        config,
        config.broker,
        config.worker,
        config.align,
        config.quality,
        config.area[0],
        config.point[0],
    ):
        for name in type(table).__struct_fields__:
            assert name in text or name in {"detector", "cert_file", "key_file"}, name


def test_one_mistake_is_one_line_with_file_line_key_value_and_rule() -> None:
    text = "[broker]\n# half of 6000\nheartbeat_interval_ms = 4000\n"
    assert refused(text) == (
        "s.toml:3: broker.heartbeat_interval_ms = 4000: must be less than half of session_timeout_ms (6000)"
    )


def test_an_unknown_key_names_the_nearest_and_the_known_ones() -> None:
    assert refused("[align]\nwait_s = 0.25\n") == (
        "s.toml:2: align.wait_s = 0.25: unknown key; did you mean 'wait_ms'? "
        "known: wait_ms, lead_ms, reanchor_count, frozen_ms"
    )
    assert refused("[aline]\nwait_ms = 1\n").startswith(
        "s.toml:1: aline = (table): unknown key; did you mean 'align'?"
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[broker]\npartitions = 1.5\n", "s.toml:2: broker.partitions = 1.5: must be an integer"),
        ('[align]\nwait_ms = "250"\n', 's.toml:2: align.wait_ms = "250": must be an integer'),
        ("[broker]\nbootstrap = 9092\n", "s.toml:2: broker.bootstrap = 9092: must be a string"),
        ("[site]\nnominal_hz = true\n", "s.toml:2: site.nominal_hz = true: must be a number"),
        (POINT.replace("MW", "kW"), 's.toml:4: point[0].unit = "kW": must be one of "MW", "Mvar", "kV"'),
        ("point = 3\n", "s.toml:1: point = 3: must be an array"),
        ("[[align]]\n", "s.toml:1: align = (table): must be a table"),
        ('[[point]]\nid = "P"\narea = "n"\n', "s.toml:1: point[0].unit = (nothing): is required"),
    ],
)
def test_a_wrong_type_is_refused(text: str, told: str) -> None:
    assert refused(text).startswith(told)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[site]\nnominal_hz = 55\n", "s.toml:2: site.nominal_hz = 55.0: must be 50 or 60"),
        ("[align]\nwait_ms = -1\n", "s.toml:2: align.wait_ms = -1: must be greater than 0"),
        ("[align]\nlead_ms = 0\n", "s.toml:2: align.lead_ms = 0: must be greater than 0"),
        (
            "[align]\nwait_ms = 6000\n",
            "s.toml:2: align.wait_ms = 6000: must not be greater than lead_ms (250)",
        ),
        ("[quality]\nfreq_min_hz = nan\n", "s.toml:2: quality.freq_min_hz = nan: must be a finite number"),
        (
            "[quality]\nfreq_max_hz = 40\n",
            "s.toml:1: quality.freq_min_hz = 45.0: must be less than freq_max_hz (40)",
        ),
        (
            "[site]\nnominal_hz = 60\n[quality]\nfreq_max_hz = 55\n",
            "s.toml:2: site.nominal_hz = 60.0: must lie within",
        ),
        ("[worker]\nhttp_port = 70000\n", "s.toml:2: worker.http_port = 70000: must be a TCP port"),
        ('[broker]\nbootstrap = "kafka"\n', 's.toml:2: broker.bootstrap = "kafka": must be "host:port"'),
        ("[broker]\npartitions = 0\n", "s.toml:2: broker.partitions = 0: must be greater than 0"),
        (
            "[broker]\nrebalance_timeout_ms = 100\n",
            "s.toml:2: broker.rebalance_timeout_ms = 100: must not be less",
        ),
        (POINT + POINT, 's.toml:6: point[1].id = "P": is already the id of [[point]] number 1'),
        ('[[area]]\nname = "a"\n[[area]]\nname = "a"\n', 's.toml:4: area[1].name = "a": is already the name'),
        ('[[area]]\nname = "a b"\n', 's.toml:2: area[0].name = "a b": must match'),
        (
            '[[area]]\nname = "nort"\n' + POINT,
            "s.toml:5: point[0].area = \"north\": no such [[area]]; did you mean 'nort'?",
        ),
        (
            POINT + "limit_low = 5\nlimit_high = 4\n",
            "s.toml:5: point[0].limit_low = 5.0: must be less than limit_high",
        ),
        (
            POINT + "limit_low = 4\nlimit_high = 4\n",
            "s.toml:5: point[0].limit_low = 4.0: must be less than limit_high",
        ),
        (
            POINT + "limit_low = 1\nlimit_high = 2\ndeadband = 1\n",
            "s.toml:7: point[0].deadband = 1.0: must be less",
        ),
        (POINT + "on_delay_ms = -1\n", "s.toml:5: point[0].on_delay_ms = -1: must not be negative"),
        (
            POINT + 'kind = "voltage"\n',
            "s.toml:4: point[0].unit = \"MW\": a point of kind 'voltage' is measured in kV",
        ),
        (
            POINT + RESOURCE.replace("value_min = -1", "value_min = 2"),
            "s.toml:10: resource[0].value_min = 2.0: must be",
        ),
        (
            POINT + RESOURCE.replace("= 1.0 }", "= 1.0, Q = 1 }"),
            "s.toml:14: resource[0].effect.Q = 1.0: no such [[point]]",
        ),
        (
            POINT + RESOURCE.replace('"MW"', '"kV"'),
            's.toml:9: resource[0].unit = "kV": must be the unit of its point',
        ),
        (
            POINT + RESOURCE.replace('point = "P"', 'point = "X"'),
            's.toml:8: resource[0].point = "X": no such [[point]]',
        ),
        (
            POINT + RESOURCE.replace("{ P = 1.0 }", "{}"),
            "s.toml:14: resource[0].effect = (nothing): must name at least one",
        ),
        (
            "[detector.rocoff]\nlimit = 1\n",
            "s.toml:1: detector.rocoff = (table): no such rule; did you mean 'rocof'?",
        ),
        (
            "[detector.rocof]\nlimt = 1\n",
            "s.toml:2: detector.rocof.limt = 1: no such setting of a detector's rule",
        ),
        ('[detector.rocof]\nlimit = "1"\n', 's.toml:2: detector.rocof.limit = "1": must be a number'),
        (
            "[detector.rocof]\nlimit = 0\n",
            "s.toml:2: detector.rocof.limit = 0: must be a finite number greater than 0",
        ),
        ("[detector.rocof]\nenabled = 1\n", "s.toml:2: detector.rocof.enabled = 1: must be true or false"),
        ("[detector.rocof]\npriority = 5\n", "s.toml:2: detector.rocof.priority = 5: must be 1, 2, 3 or 4"),
        (
            "[detector.rocof]\non_delay_ms = -5\n",
            "s.toml:2: detector.rocof.on_delay_ms = -5: must be whole milliseconds",
        ),
        (
            "[detector.rocof]\ndeadband_ratio = 1\n",
            "s.toml:2: detector.rocof.deadband_ratio = 1: must be at least 0",
        ),
    ],
)
def test_a_broken_rule_is_refused(text: str, told: str) -> None:
    assert told in refused(text)


def test_every_mistake_of_a_kind_is_told_at_once_in_the_order_of_the_file() -> None:
    told = refused("[align]\nwait_ms = 0\n[quality]\nbad_ms = 0\n[decide]\nquiet_ms = -3\n").splitlines()
    assert [line.split(" = ")[0] for line in told] == [
        "s.toml:2: align.wait_ms",
        "s.toml:4: quality.bad_ms",
        "s.toml:6: decide.quiet_ms",
    ]


@pytest.mark.parametrize(
    "text",
    [
        '[broker]\nsecurity_protocol = "SASL_SSL"\nsasl_password = "hunter2"\n',
        '[broker]\npassword = "hunter2"\n',
        '[broker]\nsasl_password = ["hunter2"]\n',
        '[broker]\nsasl_password = "hunter2"\n',
    ],
)
def test_a_password_in_the_file_is_refused_and_never_shown(text: str) -> None:
    told = refused(text)
    assert "hunter2" not in told
    assert "(not shown)" in told or "(table)" in told


def test_a_password_over_plain_text_is_refused() -> None:
    lines = 'sasl_mechanism = "PLAIN"\nsasl_username = "u"\nsasl_password = "env:P"\n'
    assert refused(f'[broker]\nsecurity_protocol = "SASL_PLAINTEXT"\n{lines}') == (
        's.toml:2: broker.security_protocol = "SASL_PLAINTEXT": sends the password unprotected: use SASL_SSL'
    )
    assert 'has no effect with security_protocol = "PLAINTEXT"' in refused(f"[broker]\n{lines}")


def test_credentials_are_complete_or_refused() -> None:
    told = refused('[broker]\nsecurity_protocol = "SASL_SSL"\ncert_file = "c.pem"\n')
    for name in ("sasl_mechanism", "sasl_username", "sasl_password"):
        assert f'broker.{name} = (nothing): is required with security_protocol = "SASL_SSL"' in told
    assert 'broker.cert_file = "c.pem": needs key_file too' in told


def test_secrets_come_from_the_environment_or_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GRID_PASSWORD", "s3cret")
    (tmp_path / "p").write_text("from file\n")
    assert secret("env:GRID_PASSWORD") == "s3cret"
    assert secret(f"file:{tmp_path / 'p'}") == "from file"
    monkeypatch.delenv("GRID_PASSWORD")
    with pytest.raises(ConfigError, match="environment variable GRID_PASSWORD of"):
        secret("env:GRID_PASSWORD")
    with pytest.raises(ConfigError, match="cannot be read"):
        secret(f"file:{tmp_path / 'absent'}")


def test_client_settings_carry_tls_and_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("P", "s3cret")
    broker = BrokerTable(
        security_protocol="SASL_SSL", sasl_mechanism="SCRAM-SHA-512", sasl_username="u", sasl_password="env:P"
    )
    settings = client_settings(broker)
    assert settings["ssl_context"].verify_mode == ssl.CERT_REQUIRED
    assert settings["sasl_plain_password"] == "s3cret"
    assert set(client_settings(BrokerTable())) == {
        "bootstrap_servers",
        "security_protocol",
        "request_timeout_ms",
    }
    with pytest.raises(ConfigError, match=r"certificates of \[broker\] cannot be used"):
        client_settings(msgspec.structs.replace(broker, ca_file="/absent.pem"))


def test_a_file_that_is_not_toml_text_is_one_sentence(tmp_path: Path) -> None:
    assert refused("x = ").startswith("s.toml: is not TOML: ")
    assert "(at line 2, column 5)" in refused("[a]\nb = [1,,2]\n") or "line 2" in refused("[a]\nb = [1,,2]\n")
    binary = tmp_path / "b.toml"
    binary.write_bytes(b"name = \xff")
    with pytest.raises(ConfigError, match=r"b\.toml: is not UTF-8 text \(byte 7\)"):
        load_site(binary)
    with pytest.raises(ConfigError, match=r"absent\.toml: cannot be read: No such file"):
        load_site(tmp_path / "absent.toml")


def test_lines_are_found_through_arrays_strings_and_nested_tables() -> None:
    text = (
        'top = """\n[not.a.table]\nx = 1\n"""\n'  # 1-4
        "[a]\n"  # 5
        "list = [ # [ in a comment\n  1,\n  2 ]\n"  # 6-8
        'q."dotted.key" = { y = 1 }\n'  # 9
        "[[p]]\nx = 1\n[[p]]\nx = 2\n[p.sub]\nz = '[['\n"  # 10-15
        "last = 1\n"  # 16
    )
    lines = key_lines(text)
    assert lines["top",] == 1
    assert ("not", "a", "table") not in lines
    assert lines["a", "list"] == 6
    assert lines["a", "q", "dotted.key"] == 9
    assert line_of(lines, ("a", "q", "dotted.key", "y")) == 9
    assert lines["p", 0, "x"] == 11
    assert lines["p", 1, "x"] == 13
    assert lines["p", 1, "sub", "z"] == 15
    assert lines["p", 1, "sub", "last"] == 16
    assert line_of(lines, ("nowhere",)) == 1


def test_a_rule_of_any_detector_can_be_adjusted() -> None:
    told = refused("[detector.no_such_rule_at_all]\nlimit = 1\n")
    for name in (*generic_rules(), "spe", "t2"):
        assert parse_site(f"[detector.{name}]\nlimit = 2.5\nenabled = true\n").detector[name]["limit"] == 2.5
    assert "known: " in told


def test_every_rule_that_a_fit_gives_is_known() -> None:
    rng = np.random.default_rng(1)
    fast = rng.normal(0, 1e-3, (1900, 3, 4)).astype(np.float32)
    stations = ("a", "b", "c", "d")
    spec = fit_area(Recorded("x", stations, 30.0, 60.0, fast, np.full(4, np.nan)), "x", SessionScorer)
    fitted = {rule.name for rule in spec.rules}
    assert fitted <= set(rule_names(None))


def test_a_rule_of_the_sites_own_bundle_is_known(tmp_path: Path) -> None:
    (tmp_path / "manifest.toml").write_text('[[model.rule]]\nname = "homemade"\n')
    text = f'[worker]\nbundle = "{tmp_path}"\n[detector.homemade]\nlimit = 1\n'
    assert parse_site(text).detector["homemade"] == {"limit": 1}


def test_check_refuses_as_the_start_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "site.toml"
    file.write_text("[align]\nwait_ms = 0\n")
    with pytest.raises(SystemExit) as end:
        app(["check", "-c", str(file), "--offline"])
    assert end.value.code == 1
    assert capsys.readouterr().out == f"FAIL  config  {file}:2: align.wait_ms = 0: must be greater than 0\n"
    file.write_text("")
    with pytest.raises(SystemExit) as end:
        app(["check", "-c", str(file), "--offline"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"OK    config  {file}\n"
