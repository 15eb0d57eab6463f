"""The limits of control groups."""

from pathlib import Path

from dinoclassify.system.cgroups import CgroupLimits, read_limits


def test_limits_of_control_groups_of_both_versions_are_read(tmp_path: Path) -> None:
    def group(folder: str, **files: str) -> None:
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (tmp_path / folder / name.replace("__", ".")).write_text(f"{content}\n")

    groups = tmp_path / "groups"
    assert read_limits(str(tmp_path), str(groups)) == CgroupLimits()
    groups.write_text("0::/pod/box\n")
    group("pod", memory__max="1000", cpu__max="max 100000", pids__max="50")
    group("pod/box", memory__max="max", cpu__max="50000 100000", pids__max="max")
    assert read_limits(str(tmp_path), str(groups)) == CgroupLimits(memory=1000, cpus=0.5, processes=50)
    groups.write_text("4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n2:pids:/docker/abc\n")
    group("memory", memory__limit_in_bytes="2000")  # what is mounted in a container is its own group
    group("cpu,cpuacct", cpu__cfs_quota_us="150000", cpu__cfs_period_us="100000")
    group("pids", pids__max="max")
    assert read_limits(str(tmp_path), str(groups)) == CgroupLimits(memory=2000, cpus=1.5)
    group("memory", memory__limit_in_bytes="9223372036854771712")
    group("cpu,cpuacct", cpu__cfs_quota_us="-1")
    assert read_limits(str(tmp_path), str(groups)) == CgroupLimits()
