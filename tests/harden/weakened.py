"""python -m tests.harden.weakened [NUMBER …]: takes one defence away at a time, and looks whether its check notices.

Each weakening is a few words of the sources that are replaced in a copy of the tree, where the quick test of that check
is then run, and has to fail. Prints a table; exits with 1 where a test did not notice.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
# Ignored by git, and needed: the compiled kernel.
_BUILT = "service/engine/kernel/kernel-*"
# A test that waits for what does not come any more has noticed, too.
_SECONDS = 60


class Weakening(NamedTuple):
    """One defence of check `number`: what is taken away, where, and which test has to notice.

    Where there is a second line of defence, `also` takes that away: file, words and what replaces them.
    """

    number: int
    what: str
    file: str
    strong: str
    weak: str
    test: str
    also: tuple[tuple[str, str, str], ...] = ()

    @property
    def edits(self) -> tuple[tuple[str, str, str], ...]:
        """All of it."""
        return (self.file, self.strong, self.weak), *self.also


_GUARD, _BATCHING, _RECEIVING = "service/api/guard.py", "service/batching.py", "service/receiving.py"
_SUPERVISOR, _REPOSITORY = "service/supervisor.py", "models/repository.py"
_TABLES = "penumbra/scoring/tables.py"

WEAKENINGS = (
    Weakening(
        1,
        "looking needs no key",
        _GUARD,
        "return None\n        return Scope.READ",
        "return None\n        return None",
        "tests/api/test_guard.py::test_without_a_key_nothing_is_open_but_health_and_pages",
    ),
    Weakening(
        2,
        "any well-formed Host is known",
        _GUARD,
        "if not known:",
        "if False:",
        "tests/api/test_guard.py::test_another_host_is_refused",
    ),
    Weakening(
        2,
        "pages of other sites may ask where nobody needs a key",
        _GUARD,
        'self._look_whence(scope["method"], sent)',
        "pass",
        "tests/api/test_guard.py::test_no_page_of_another_site_asks_without_a_key",
    ),
    Weakening(
        3,
        "starts without keys wherever it listens",
        "service/preflight.py",
        "if access is None and not settings.loopback",
        "if False and access is None and not settings.loopback",
        "tests/api/test_settings.py::test_nobody_is_served_by_accident",
    ),
    Weakening(
        4,
        "a version is copied by pickle when it is loaded",
        "service/served.py",
        "made.warm_up()",
        "made.warm_up()\n        import pickle\n\n        pickle.loads(pickle.dumps(name))",
        "tests/service/test_no_pickle.py",
    ),
    Weakening(
        5,
        "weights that are no safetensors are given to PyTorch",
        _REPOSITORY,
        "except (SafetensorError, KeyError) as error:  #",
        "except (SafetensorError, KeyError) as error:\n"
        "        import torch\n\n        torch.load(folder / WEIGHTS, weights_only=False)  #",
        "tests/models/test_repository_refusals.py::test_pickles_are_not_executed",
    ),
    Weakening(
        6,
        "weights need not be those of the manifest",
        _REPOSITORY,
        "if hashlib.sha256(weights).hexdigest() != manifest.weights_sha256:",
        "if False:",
        "tests/models/test_repository_refusals.py::test_changed_weights",
    ),
    Weakening(
        7,
        "links may lead out of the store",
        _REPOSITORY,
        'raise CorruptVersion(f"{name}/{version} leads out of the store")',
        "pass",
        "tests/models/test_repository_refusals.py::test_links_out_of_the_store",
    ),
    Weakening(
        8,
        "of two equal keys the last counts",
        "service/api/strict_json.py",
        'if body.count(b":") != _keys(value) and',
        'if False and body.count(b":") != _keys(value) and',
        "tests/api/test_strict_json.py::test_a_key_that_is_there_twice_is_refused",
    ),
    Weakening(
        9,
        "as many complaints as there are mistakes",
        "service/errors.py",
        "MAX_COMPLAINTS = 10",
        "MAX_COMPLAINTS = 1_000_000",
        "tests/api/test_refused.py::test_thousands_of_bad_rows_get_a_short_answer",
        (("models/features.py", "MAX_COMPLAINTS = 10", "MAX_COMPLAINTS = 1_000_000"),),
    ),
    Weakening(
        10,
        "a body of any length is held",
        "service/api/edge.py",
        "if size > max_bytes:",
        "if False:",
        "tests/api/test_refused.py::test_a_body_that_grows_too_large_is_cut_off",
    ),
    Weakening(
        11,
        "compressed bodies are taken for plain ones",
        "service/api/edge.py",
        'if self._encoding() != b"identity":',
        "if False:",
        "tests/api/test_refused.py::test_compressed_bodies_are_415_and_not_inflated",
    ),
    Weakening(
        10,
        "a row of a table may be of any length",
        _TABLES,
        "if letters >= _LARGEST_ROW or",
        "if False and",
        "tests/client/test_tables.py::test_a_row_of_text_is_bounded",
    ),
    Weakening(
        11,
        "Parquet is decoded whatever it takes",
        _TABLES,
        "if piece.nbytes > _DECODED_BYTES:",
        "if False:",
        "tests/client/test_tables.py::test_a_word_that_is_repeated_is_bounded",
    ),
    Weakening(
        11,
        "what Parquet says of its size is not looked at",
        "service/durable/claims.py",
        "if max(sizes, default=0) > most_bytes:",
        "if False:",
        "tests/durable/test_bounds.py::test_too_much_is_refused",
    ),
    Weakening(
        12,
        "rows × samples have no limit",
        "service/api/decoding.py",
        "if rows * samples > limits.max_evaluations:",
        "if False:",
        "tests/api/test_refused.py::test_requests_over_the_limits_are_refused_by_their_sizes",
    ),
    Weakening(
        13,
        "who owes us the rest of a request may take any time",
        _RECEIVING,
        "elif self.owing is not None and self.owing < before",
        "elif False and self.owing is not None and self.owing < before",
        "tests/service/test_receiving.py::test_who_does_not_go_on_is_let_go",
    ),
    Weakening(
        13,
        "any number of connections",
        _RECEIVING,
        "if not self._room.holds(self) and",
        "if False and",
        "tests/service/test_connections.py::test_beyond_the_bound_all_but_health_is_turned_away",
    ),
    Weakening(
        13,
        "nobody goes for others to be heard",
        "service/connections.py",
        "oldest = next(iter(self._spare))",
        "oldest = guest",
        "tests/service/test_connections.py::test_silence_keeps_nobody_out",
    ),
    Weakening(
        13,
        "any number of handshakes",
        "service/listening.py",
        "if self._tls is not None and len(self._starting)",
        "if False and self._tls is not None and len(self._starting)",
        "tests/service/test_listening.py::test_who_takes_no_part_in_a_handshake_makes_room",
    ),
    Weakening(
        14,
        "uvicorn's own answer to what is no HTTP",
        _RECEIVING,
        "def send_400_response(",
        "def _send_400_response(",
        "tests/service/test_receiving.py::test_what_is_ambiguous_or_broken_is_one_400",
    ),
    Weakening(
        14,
        "a connection is closed while the other side sends",
        "service/connections.py",
        "if self._transport.is_closing() or not self._talking():",
        "if True:",
        "tests/service/test_connections.py::test_who_still_sends_gets_the_answer",
    ),
    Weakening(
        14,
        "what stands behind a refusal is done",
        _RECEIVING,
        "if self.transport.is_closing():  # what stood before",
        "if False:  # what stood before",
        "tests/service/test_receiving.py::test_nothing_is_done_of_what_stands_behind_a_refusal",
    ),
    Weakening(
        15,
        "trailers of any length",
        _RECEIVING,
        "if not self._advanced and self._refusal is None:",
        "if False:",
        "tests/service/test_receiving.py::test_what_is_no_body_is_bounded_behind_the_headers_too",
    ),
    Weakening(
        15,
        "any number of headers",
        _RECEIVING,
        "if len(self.headers) > MOST_HEADERS:",
        "if False:",
        "tests/service/test_receiving.py::test_headers_are_bounded",
    ),
    Weakening(
        17,
        "keys are kept as they are",
        "service/access/keys.py",
        "return hashlib.sha256(secret).digest()",
        'return secret[:32].ljust(32, b"\\0")',
        "tests/access/test_keys.py::test_only_its_hash_is_kept",
    ),
    Weakening(
        17,
        "keys are read once",
        "service/access/keyring.py",
        "if seen == self._seen:",
        "if self._seen is not None:",
        "tests/api/test_guard.py::test_keys_rotate_without_a_restart",
    ),
    Weakening(
        17,
        "whoever issues tokens can stop keys from being looked at",
        "service/access/tokens.py",
        "except Exception as error:  # noqa: BLE001 - others'",
        "except OSError as error:  #",
        "tests/access/test_tokens.py::test_a_provider_that_fails_keeps_no_key_alive",
        also=(("service/access/access.py", "except Exception:", "except OSError:"),),
    ),
    Weakening(
        18,
        "rates are not looked at",
        "service/access/access.py",
        "if caller.rate and",
        "if False and",
        "tests/api/test_guard.py::test_a_rate_is_per_key_and_says_when_to_come_back",
    ),
    Weakening(
        18,
        "a full queue is full for everybody",
        "service/fairness.py",
        "if callers > 1 and owed and",
        "if False and",
        "tests/api/test_fair.py::test_over_http_a_key_that_floods_is_429_and_another_is_served",
    ),
    Weakening(
        18,
        "first come, first served",
        "service/turns.py",
        "own = self._callers.get(turn.caller)\n            if own is None:",
        'turn.caller = ""\n            own = self._callers.get("")\n            if own is None:',
        "tests/api/test_fair.py::test_on_the_engine_threads_a_flood_is_one_turn_among_two",
    ),
    Weakening(
        19,
        "what will be refused is read first",
        "service/api/hot.py",
        'self.state.inference.foresee(state["caller"].name)',
        "pass",
        "tests/api/test_fair.py::test_what_comes_to_nothing_is_not_read",
    ),
    Weakening(
        20,
        "who is late is computed all the same",
        "service/turns.py",
        "if now > turn.deadline:",
        "if False:",
        "tests/api/test_queue.py::test_a_deadline_that_passes_in_the_queue_is_never_computed",
        also=((_BATCHING, "late = now > entry.deadline and", "late = False and"),),
    ),
    Weakening(
        21,
        "nobody looks who has hung up",
        _BATCHING,
        "if entry.gone():",
        "if False:",
        "tests/api/test_company.py::test_a_caller_who_hung_up_is_not_computed_for",
    ),
    Weakening(
        22,
        "what fails fails all of its company",
        _BATCHING,
        "for entry in company:\n                self._evaluate([entry])",
        "for entry in company:\n                self._settle(entry, began, error)",
        "tests/api/test_company.py::test_one_bad_job_does_not_fail_its_company",
    ),
    Weakening(
        23,
        "each thread's masks begin where the last ones ended",
        "service/engine/masks.py",
        "place = first_sample * blocks",
        "place = first_sample * blocks + int(self._counter[0])",
        "tests/laws/test_1_seed_law.py::test_engine_repeats_itself",
    ),
    Weakening(
        24,
        "a version that is damaged takes its model out of service",
        "service/offers.py",
        "except RepositoryError as error:",
        "except RepositoryError as error:\n        raise",
        "tests/service/test_catalogue.py::test_a_corrupt_version_is_told_and_the_others_serve",
    ),
    Weakening(
        25,
        "it says that it is ready until the end",
        "service/server.py",
        "self.config.loaded_app.state.ready = False",
        "pass",
        "tests/service/test_serving.py::test_it_says_that_it_is_not_ready_before_it_stops",
    ),
    Weakening(
        26,
        "nobody notices who hangs",
        _SUPERVISOR,
        "if worker.silent > _PATIENCE:",
        "if False:",
        "tests/service/test_supervisor.py::test_a_worker_that_hangs_is_replaced",
    ),
    Weakening(
        26,
        "who is worn stays",
        _SUPERVISOR,
        "if worker.worn or worker.generation",
        "if worker.generation",
        "tests/service/test_supervisor.py::test_a_worker_that_is_worn_is_replaced",
    ),
    Weakening(
        27,
        "a store that can't be read is an empty one",
        _REPOSITORY,
        'raise Unreachable(f"{self.root} can\'t be read: {error.strerror or error}") from error',
        "return {}",
        "tests/service/test_catalogue.py::test_a_store_that_is_gone_takes_nothing_out_of_service",
    ),
    Weakening(
        27,
        "a mirror that can't be written is nothing to be told",
        "models/mirror.py",
        'except OSError as error:\n            raise Unreachable(f"the mirror',
        'except ZeroDivisionError as error:\n            raise Unreachable(f"the mirror',
        "tests/service/test_object_store.py::test_a_full_disk_under_the_mirror",
    ),
    Weakening(
        27,
        "an answer fails with Redis",
        "service/caching/shared.py",
        "except Exception as failure:  # noqa: BLE001 - whatever is wrong with Redis",
        "except ZeroDivisionError as failure:  # whatever is wrong with Redis",
        "tests/caching/test_shared.py::test_redis_that_fails_is_left_alone_for_a_while",
    ),
    Weakening(
        28,
        "memory that runs short changes nothing",
        _BATCHING,
        "if self._memory_short():",
        "if False:",
        "tests/api/test_fair.py::test_while_memory_is_short_nothing_large_is_taken",
    ),
    Weakening(
        29,
        "the image's command is a shell's",
        "Dockerfile",
        'ENTRYPOINT ["python", "-m", "service"]',
        "ENTRYPOINT python -m service",
        "tests/deploy/test_image_files.py::test_commands_have_no_shell",
    ),
)


def notices(weakening: Weakening) -> tuple[bool, str]:
    """Whether the test fails where the defence is gone, and pytest's last line."""
    with tempfile.TemporaryDirectory(prefix="weakened-") as folder:
        tree = Path(folder)
        for file in _files():
            (tree / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / file, tree / file)
        for file, strong, weak in weakening.edits:
            (tree / file).write_text((tree / file).read_text().replace(strong, weak))
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-o", f"timeout={_SECONDS}"]
        ended = subprocess.run([*command, weakening.test], cwd=tree, capture_output=True, text=True, check=False)
        # 1: tests were run, and some failed. Anything else is no notice: the copy is broken, or there is no such test.
        return ended.returncode == 1, (ended.stdout.strip().splitlines() or [ended.stderr.strip()])[-1]


def _files() -> Iterator[Path]:
    """Everything that git has or would take, and what was built."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    found = [Path(name) for name in listed.split("\0") if name]
    found += [path.relative_to(ROOT) for path in ROOT.glob(_BUILT)]
    return (file for file in found if (ROOT / file).is_file())


def main(numbers: list[int]) -> int:
    """The exit code."""
    print("| # | taken away | noticed by | |\n| --- | --- | --- | --- |", flush=True)
    blind = 0
    for weakening in WEAKENINGS:
        if not numbers or weakening.number in numbers:
            noticed, said = notices(weakening)
            blind += not noticed
            said = said.strip("= ") if noticed else f"**not noticed**: {said}"
            test = weakening.test.removeprefix("tests/")
            print(f"| {weakening.number} | {weakening.what} | `{test}` | {said} |", flush=True)
    return int(bool(blind))


if __name__ == "__main__":
    sys.exit(main([int(word) for word in sys.argv[1:]]))
