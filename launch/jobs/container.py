"""Containers: the command that starts an agent in one, and what it shows of this machine.

The supervisor stays outside, where ``scontrol`` is. Inside are torchrun and the workers, by the image's own Python.
Sources: the option lists of pyxis (github.com/NVIDIA/pyxis, wiki, Usage) and of ``apptainer exec`` (apptainer.org/docs).
"""

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dist_train.config.schema import Config
from dist_train.errors import ConfigError
from dist_train.run.folder import RunDir
from launch.installation import HOME
from launch.jobs.job_options import JobOptions

PASSED = "DIST_TRAIN_CONTAINER_ENV"
"""The names that ``--env`` gave, with commas: their values win over those in the image."""
_OURS = (
    *("PYTHONPATH", "PYTHONSAFEPATH", "OMP_NUM_THREADS", "GLOO_SOCKET_IFNAME", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE"),
    *("SLURM_JOB_END_TIME", "DIST_TRAIN_START", "DIST_TRAIN_AGENT"),
)
_FOLDERS = ("TMPDIR", "HF_HOME", "TORCH_HOME", "XDG_CACHE_HOME")
"""Variables with folders of this machine that the trainer writes to or reads weights from."""
_NVIDIA = Path("/dev/nvidiactl")


@dataclass(frozen=True)
class Inside:
    """What a container gets."""

    options: JobOptions
    cpus: int
    env: Mapping[str, str]
    mounts: list[str]
    """``SRC:DST`` or ``SRC:DST:FLAGS``."""
    folder: str
    """The current folder, inside too."""

    @property
    def names(self) -> list[str]:
        """Names of variables whose value in the image must not win."""
        given = self.env.get(PASSED, "").split(",")
        return [name for name in (*_OURS, *given) if name in self.env]


def runtime_of(options: JobOptions) -> str:
    """Return what runs the image: ``--container-runtime``, or by the image's name."""
    image = str(options.container)
    if options.container_runtime:
        return options.container_runtime
    return "apptainer" if image.endswith(".sif") or "://" in image or Path(image).is_dir() else "pyxis"


def check_container(options: JobOptions) -> None:
    """Check ``--container`` and the options beside it before a submission.

    Raises:
        ConfigError: they do not work here, or have no effect.
    """
    if options.container is None:
        beside = ("container_runtime", "container_mounts", "container_python", "container_option")
        useless = next((name for name in beside if getattr(options, name)), None)
        if useless:
            raise ConfigError(f"--{useless.replace('_', '-')} has no effect without --container IMAGE")
        return
    runtime = runtime_of(options)
    if runtime == "pyxis" and options.cluster == "local":
        raise ConfigError(
            f"--container {options.container} with pyxis needs SLURM's srun; with --cluster local use an image for "
            "apptainer (--container-runtime apptainer), or leave --container out"
        )
    if options.no_snapshot:
        raise ConfigError("--container needs the copy of the code, which alone is shown inside; remove --no-snapshot")
    if _is_file_name(options.container) and not options.no_check and not Path(options.container).exists():
        raise ConfigError(
            f"--container {options.container} does not exist on this machine; use --no-check if it does on the nodes"
        )


def check_runtime(options: JobOptions) -> None:
    """Check, on the node, that the container's runtime is installed.

    Raises:
        ConfigError: it is not.
    """
    if runtime_of(options) == "apptainer" and not (shutil.which("apptainer") or shutil.which("singularity")):
        raise ConfigError(
            f"--container {options.container}: this machine has neither apptainer nor singularity; load it with "
            "--setup 'module load apptainer', or use --container-runtime pyxis"
        )


def _is_file_name(image: str) -> bool:
    return "://" not in image and (image.startswith(("/", "./", "../")) or image.endswith((".sif", ".sqsh")))


def contained(
    options: JobOptions, agent: list[str], env: Mapping[str, str], cfg: Config, shown: Iterable[Path], code: Path = HOME
) -> tuple[list[str], dict[str, str]]:
    """Return the command that starts an agent in the container, and its environment.

    Args:
        agent: the command of the agent outside: the Python, then its arguments.
        env: the environment of the agent.
        shown: paths to show inside, besides ``code``, the current folder, the run folder and the paths in the config.

    Raises:
        ConfigError: a path cannot be shown inside.
    """
    # The user's own PYTHONPATH and PYTHONHOME belong to the Python outside.
    inside_env = {name: value for name, value in env.items() if name not in ("PYTHONHOME", "VIRTUAL_ENV")}
    inside_env["PYTHONPATH"] = str(code)
    paths = [code, Path.cwd(), RunDir.of(cfg.run).path, *shown, *_paths_in(cfg.model_dump())]
    paths += [Path(env[name]) for name in _FOLDERS if _exists(env.get(name, ""))]
    cpus = options.cpus_per_gpu * (options.procs_per_node or 1)
    inside = Inside(options, cpus, inside_env, mounts(paths, options.container_mounts), str(Path.cwd()))
    python = (options.container_python or "python3").split()
    prefix, more = {"pyxis": pyxis, "apptainer": apptainer}[runtime_of(options)](inside)
    return [*prefix, *python, "-m", "launch.node.contained", *agent[1:]], inside_env | more


def pyxis(inside: Inside) -> tuple[list[str], dict[str, str]]:
    """Return the start of a command for pyxis, a step of srun on this node, and the variables that it needs."""
    image = str(inside.options.container)
    node = inside.env.get("SLURMD_NODENAME")
    return [
        *("srun", "--overlap", "--nodes=1", "--ntasks=1", "--ntasks-per-node=1", "--cpu-bind=none", "--input=none"),
        # A step may not take CPUs that it does not name, and inherits other numbers from the step of the supervisors.
        *(f"--cpus-per-task={inside.env.get('SLURM_CPUS_PER_TASK') or inside.cpus}", "--export=ALL"),
        *([f"--nodelist={node}"] if node else []),
        f"--container-image={image}",
        f"--container-mounts={','.join(inside.mounts)}",
        f"--container-workdir={inside.folder}",
        f"--container-env={','.join(inside.names)}",
        *inside.options.container_option,
    ], {}


def apptainer(inside: Inside) -> tuple[list[str], dict[str, str]]:
    """Return the start of a command for apptainer, or singularity where only that is, and the variables that it needs."""
    programs = ("apptainer", "singularity")
    program = next((name for name in programs if shutil.which(name, path=inside.env.get("PATH"))), "apptainer")
    forced = {f"{program.upper()}ENV_{name}": inside.env[name] for name in inside.names}
    return [
        *(program, "exec", *(["--nv"] if _NVIDIA.exists() else [])),
        *(argument for mount in inside.mounts for argument in ("--bind", mount)),
        *("--pwd", inside.folder, *inside.options.container_option, str(inside.options.container)),
    ], forced


def mounts(paths: Iterable[Path], given: Iterable[str] = ()) -> list[str]:
    """Return what to mount: the user's own mounts, and ``paths`` under their own names, without those in others of them.

    Raises:
        ConfigError: a path contains a colon or a comma, by which the runtimes separate mounts.
    """
    own = list(given)
    taken = {mount.split(":")[1] for mount in own}
    found: list[str] = []
    for path in sorted({str(path.expanduser().absolute()) for path in paths} - {"/"}):
        if any(path == other or path.startswith(f"{other}/") for other in found):
            continue
        if "," in path or ":" in path:
            raise ConfigError(f"{path} contains a comma or a colon, which no container can show inside; rename it")
        found.append(path)
    return [*(f"{path}:{path}" for path in found if path not in taken), *own]


def _paths_in(tree: Any) -> list[Path]:
    """Return the values of a config that are paths of this machine."""
    if isinstance(tree, dict):
        return [path for value in tree.values() for path in _paths_in(value)]
    if isinstance(tree, (list, tuple)):
        return [path for value in tree for path in _paths_in(value)]
    return [Path(tree)] if isinstance(tree, str) and _exists(tree) else []


def _exists(text: str) -> bool:
    try:
        return bool(text) and Path(text).expanduser().exists()
    except (OSError, ValueError, RuntimeError):  # too long; with a null byte; an unknown ~user
        return False


def env_names(options: JobOptions) -> str:
    """Return the value of ``PASSED`` for a job."""
    return ",".join(key for key, _ in options.env)
