"""Where a value comes from, and that a wrong one is one line naming its key."""

import os
from pathlib import Path

import pytest

from router.enums import OnFailure
from router.errors import ConfigError
from router.settings import ENV_PREFIX, Settings, load_settings
from router.settings_docs import markdown

_PAGE = Path(__file__).parents[3] / "docs" / "configuration.md"


@pytest.fixture(autouse=True)
def empty_surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file in the working directory and none of our variables in the environment."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(ENV_PREFIX)]:
        monkeypatch.delenv(name)


def written(tmp_path: Path, text: str, name: str = "thinktwice.toml") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


class TestPrecedence:
    def test_defaults_without_a_file(self) -> None:
        settings = load_settings()
        assert settings.server.host == "127.0.0.1"
        assert settings.server.port == 8000
        assert settings.redis.url is None

    def test_the_file_of_the_working_directory_is_read(self, tmp_path: Path) -> None:
        written(tmp_path, "[server]\nport = 9001\n")
        assert load_settings().server.port == 9001

    def test_a_given_file_replaces_it(self, tmp_path: Path) -> None:
        written(tmp_path, "[server]\nport = 9001\n")
        other = written(tmp_path, "[server]\nworkers = 2\n", "other.toml")
        server = load_settings(other).server
        assert (server.port, server.workers) == (8000, 2)

    def test_environment_over_file_key_by_key(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        file = written(tmp_path, "[server]\nport = 9001\nworkers = 3\n")
        monkeypatch.setenv("THINKTWICE_SERVER__PORT", "9002")
        server = load_settings(file).server
        assert (server.port, server.workers) == (9002, 3)

    def test_command_line_over_environment(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        file = written(tmp_path, "[server]\nport = 9001\nworkers = 3\n")
        monkeypatch.setenv("THINKTWICE_SERVER__PORT", "9002")
        monkeypatch.setenv("THINKTWICE_SERVER__HOST", "127.0.0.2")
        server = load_settings(file, {"server": {"port": 9003}}).server
        assert (server.port, server.host, server.workers) == (9003, "127.0.0.2", 3)

    def test_lists_from_the_environment_are_json(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("THINKTWICE_BACKEND__ALLOW_FIELDS", '["chat_template_kwargs"]')
        assert load_settings().backend.allow_fields == ("chat_template_kwargs",)

    def test_named_tables(self, tmp_path: Path) -> None:
        text = """
            [profiles.gsm8k]
            version = 2
            checks = [{type = "numeric"}]
            samples = {min = 1, max = 3}
            on_failure = "refuse"
            [prices."HuggingFaceTB/SmolLM2"]
            input = 0.1
            output = 0.4
        """
        settings = load_settings(written(tmp_path, text))
        profile = settings.profiles["gsm8k"]
        assert (profile.version, profile.on_failure) == (2, OnFailure.REFUSE)
        assert profile.samples is not None and profile.samples.max == 3
        assert settings.prices["HuggingFaceTB/SmolLM2"].output == 0.4

    def test_names_from_the_environment_are_lower_case(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("THINKTWICE_TENANTS__LOCAL__TRAIN_CONSENT", "true")
        assert load_settings().tenants["local"].train_consent

    def test_other_variables_are_left_alone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("THINKTWICE_CACHE_DIR", "/somewhere")
        monkeypatch.setenv("SERVER__PORT", "1")
        assert load_settings().server.port == 8000

    def test_settings_cannot_be_changed(self) -> None:
        settings = load_settings()
        with pytest.raises(ValueError, match="frozen"):
            setattr(settings.server, "port", 1)  # noqa: B010  # the type checker knows it is frozen


BAD_FILES = {
    "unknown key": ("[server]\nprot = 1\n", "server.prot"),
    "unknown section": ("[sever]\nport = 1\n", "sever"),
    "key outside a section": ("port = 1\n", "port"),
    "wrong type": ("[server]\nport = 'many'\n", "server.port"),
    "out of range": ("[server]\nport = 70000\n", "server.port"),
    "section that is a value": ("server = 1\n", "server"),
    "bad enum": ("[log]\nmode = 'lazy'\n", "log.mode"),
    "share above one": ("[router]\naudit_share = 1.5\n", "router.audit_share"),
    "not a number": ("[router]\naudit_share = nan\n", "router.audit_share"),
    "unknown key of a profile": ("[profiles.a]\nrubric = 1\n", "profiles.a.rubric"),
    "bad on_failure": ("[profiles.a]\non_failure = 'shrug'\n", "profiles.a.on_failure"),
    "price without output": ("[prices.m]\ninput = 1\n", "prices.m.output"),
    "bad TOML": ("[server\nport = 1\n", "not valid TOML"),
    "key twice": ("[server]\nport = 1\nport = 2\n", "not valid TOML"),
}


@pytest.mark.parametrize("text,named", BAD_FILES.values(), ids=BAD_FILES.keys())
def test_a_bad_file_is_one_line_naming_the_key(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(written(tmp_path, text))
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


BAD_ENVIRONMENT = {
    "unknown section": ("THINKTWICE_SEVER__PORT", "1", "THINKTWICE_SEVER__PORT"),
    "unknown key": ("THINKTWICE_SERVER__PROT", "1", "server.prot"),
    "wrong type": ("THINKTWICE_SERVER__PORT", "many", "server.port"),
    "empty": ("THINKTWICE_SERVER__PORT", "", "server.port"),
    "not JSON where a list is needed": ("THINKTWICE_BACKEND__ALLOW_FIELDS", "a,b", "THINKTWICE_BACKEND__ALLOW_FIELDS"),
    "a section as text": ("THINKTWICE_SERVER", "here", "THINKTWICE_SERVER"),
}


@pytest.mark.parametrize("variable,value,named", BAD_ENVIRONMENT.values(), ids=BAD_ENVIRONMENT.keys())
def test_a_bad_variable_is_one_line_naming_the_key(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, named: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError) as caught:
        load_settings()
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_bad_override_is_named() -> None:
    with pytest.raises(ConfigError, match=r"server\.workers"):
        load_settings(overrides={"server": {"workers": 0}})


def test_a_file_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml does not exist"):
        load_settings(tmp_path / "nowhere.toml")


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "thinktwice.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="thinktwice"):
        load_settings(path)


def test_a_directory_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thinktwice.toml").mkdir()
    with pytest.raises(ConfigError, match=r"thinktwice\.toml"):
        load_settings(tmp_path / "thinktwice.toml")


def test_several_faults_are_all_named_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(written(tmp_path, "[server]\nport = -1\nprot = 2\n"))
    assert "server.port" in str(caught.value)
    assert "server.prot" in str(caught.value)


class TestReference:
    def test_the_committed_page_is_the_generated_one(self) -> None:
        assert _PAGE.read_text() == markdown() + "\n", "run: python -m router.settings_docs > docs/configuration.md"

    def test_every_section_has_a_part(self) -> None:
        page = markdown()
        for name in Settings.model_fields:
            assert f"## `[{name}]`" in page or f"## `[{name}.NAME]`" in page

    def test_required_and_bounded_keys_say_so(self) -> None:
        page = markdown()
        assert "| `input` | number, >= 0 | required |" in page
        assert "| `samples.max` | integer, >= 1, <= 5 |" in page
