"""The recipe that makes ordinary buildout parts of a cluster.toml.

Each generated file is a part on slapos.recipe.template:jinja2, each script one
on zc.recipe.egg:scripts, so that buildout itself installs, updates and
uninstalls them.  What a part's text depends on stands in its options: only
parts whose data changed are made again.

No path of a Data.fs, a blob, a log or a backup is ever returned to buildout, which
would delete it with the part.
"""

import contextlib
import io
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import zc.buildout.buildout
from pkg_resources import ResolutionError
from zc.buildout import UserError, configparser
from zc.buildout.easy_install import AllowHostsPackageIndex
from zc.recipe.egg import Eggs

from tidstorage.cluster.load import load_cluster
from tidstorage.deployment import install as deploy
from tidstorage.deployment.generated import generate_files
from tidstorage.deployment.rendering import TEMPLATES, GeneratedFile
from tidstorage.deployment.scripts import Script, list_scripts
from tidstorage.errors import DescriptionError, TemplateBroken

logger = logging.getLogger(__name__)


class ClusterRecipe:
    """Option ``description``: the cluster.toml (default: beside buildout.cfg)."""

    def __init__(
        self,
        buildout: zc.buildout.buildout.Buildout,
        name: str,
        options: dict[str, str],
    ) -> None:
        folder = Path(buildout["buildout"]["directory"])
        options.setdefault("description", str(folder / "cluster.toml"))
        try:
            self.cluster = load_cluster(Path(options["description"]))
        except DescriptionError as error:
            # buildout shows a UserError as one clean message, and has not yet
            # uninstalled anything.
            raise UserError(f"{error}\n{error.hint}") from error
        # What cannot be rendered or fetched has to fail here, for the same reason.
        try:
            self.files = generate_files(self.cluster)
        except TemplateBroken as error:
            raise UserError(f"{error}\n{error.hint}") from error
        scripts = list_scripts(self.cluster)
        for eggs in {script.eggs: None for script in scripts}:
            _fetch(buildout, name, eggs)
        bin_directory = buildout["buildout"]["bin-directory"]
        if Path(bin_directory) != self.cluster.bin_directory:
            raise UserError(
                f"bin-directory is {bin_directory}, but cluster.toml lies in"
                f" {self.cluster.directory}: its scripts belong in"
                f" {self.cluster.bin_directory}"
            )
        _spare_files_of_original(buildout, name)
        sections = [_file_section(name, file) for file in self.files]
        sections += [_script_section(name, script) for script in scripts]
        buildout.parse("\n".join(sections))

    def install(self) -> tuple[str, ...]:
        """Make the folders; none of them is buildout's to remove."""
        deploy.make_directories(self.cluster)
        # buildout installs this part last: the generated files are all there.
        deploy.hand_over_files(self.cluster, self.files)
        return ()

    update = install


def _spare_files_of_original(
    buildout: zc.buildout.buildout.Buildout, part: str
) -> None:
    """Let buildout remove nothing of the folder that this one is a copy of.

    Its list of what it installed came along with the copy, and has the paths of the
    original: it would remove that one's files, in order to make its own.
    """
    folder = Path(buildout["buildout"]["directory"])
    former = _find_former_folder(Path(buildout["buildout"]["installed"]), part)
    if former is None or not former.exists() or former.samefile(folder):
        return
    remove: Callable[[str], None] = buildout._uninstall

    def remove_own(installed: str) -> None:
        paths = [line for line in installed.split("\n") if line]
        remove("\n".join(path for path in paths if not _is_below(path, former)))

    buildout._uninstall = remove_own
    logger.warning("%s is a copy of %s: the files there are left alone", folder, former)


def _find_former_folder(installed: Path, part: str) -> Path | None:
    """Where the description lay when buildout last ran with this list; None: never."""
    try:
        text = installed.read_text()
    except OSError:
        return None
    sections = configparser.parse(io.StringIO(text), str(installed))
    description = sections.get(part, {}).get("description")
    return None if description is None else Path(description).parent


def _is_below(path: str, folder: Path) -> bool:
    # What stands there without a folder is below this one's.
    return Path(path).is_relative_to(folder)


def _fetch(
    buildout: zc.buildout.buildout.Buildout, name: str, eggs: tuple[str, ...]
) -> None:
    """Find the eggs, or fetch them; the scripts' parts then find them at once."""
    offline = buildout["buildout"]["offline"] == "true"
    try:
        with _ask_for_one_name(offline):
            Eggs(buildout, name, {"eggs": "\n".join(eggs)}).working_set()
    except (UserError, ResolutionError, ValueError, OSError) as error:
        # A ValueError is a name that is none: "my product".
        raise UserError(
            f"an egg is missing of {', '.join(eggs)}:\n{error}\n"
            "Nothing has been changed.  Is it spelt like this, in [versions] of"
            " buildout.cfg, and can it be fetched?  Offline (-o) nothing is fetched."
        ) from error


@contextlib.contextmanager
def _ask_for_one_name(offline: bool) -> Iterator[None]:
    """Ask an index for the page of a name, and for nothing more.

    Where a name has none, buildout would read the list of all packages there are,
    which takes minutes and tells nothing new; and it would ask offline, too.
    """
    method = "obtain" if offline else "scan_all"
    setattr(AllowHostsPackageIndex, method, lambda *_arguments: None)
    try:
        yield
    finally:
        delattr(AllowHostsPackageIndex, method)


def _file_section(part: str, file: GeneratedFile) -> str:
    # json.dumps puts no line break into its text, and buildout substitutes
    # what follows a single dollar.
    data = json.dumps(file.data, sort_keys=True).replace("${", "$${")
    return (
        f"[{part}-{file.name}]\n"
        "recipe = slapos.recipe.template:jinja2\n"
        f"url = {TEMPLATES / file.template}\n"
        f"output = {file.target}\n"
        f"mode = {deploy.FILE_MODE:04o}\n"
        f"data = {data}\n"
        "context = jsonkey data :data\n"
    )


def _script_section(part: str, script: Script) -> str:
    position = script.position
    arguments = ", ".join(map(repr, script.arguments))
    eggs = "".join(f"\n    {egg}" for egg in script.eggs)
    return (
        f"[{part}-bin-{script.name}]\n"
        "recipe = zc.recipe.egg:scripts\n"
        f"eggs ={eggs}\n"
        f"entry-points = {script.name}={script.entry_point}\n"
        f"scripts = {script.name}\n"
        "initialization =\n"
        "    import sys\n"
        f"    sys.argv[{position}:{position}] = [{arguments}]\n"
    )
