"""The number of files that this process may have open, which it may raise up to what the system allows."""

import resource


def raise_file_limit(needed: int) -> int:
    """Raise the limit of open files to ``needed``, if it is lower; gives ``needed``, or the lower limit that stays."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return needed
    if hard != resource.RLIM_INFINITY and hard < needed:
        return hard
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    except (ValueError, OSError):
        return soft
    return needed
