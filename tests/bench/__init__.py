"""Measures regpush and its peers in the same run. Measure it yourself:

    python -m tests.bench                               every scenario; takes hours
    python -m tests.bench cold unchanged --runs 3       some of them
    python -m tests.bench cold --size-mb 100 --runs 1   a first look
    python -m tests.bench unchanged --only regpush --rtt 100 --json samples.json
    python -m tests.bench.splicing ten/*.whl            streams of wheels kept, or compressed anew

It needs Debian's `docker-registry`, and takes the peers it finds on the PATH: skopeo, buildah,
crane, BuildKit, tar, pigz. Inputs are made of this machine's own files, once, in a cache
folder (`--cache`). Each contender has a registry of its own, a home of its own, and where
the scenario has a link, one of those. They take turns, so that what else the machine does
hits all of them alike; a table shows medians, with the extremes of the wall time.
"""
