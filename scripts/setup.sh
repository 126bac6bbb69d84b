#!/bin/sh
# Called by the Makefile, from the project's root.
#   setup.sh packages   make .venv and install the project with the versions of constraints.txt
#   setup.sh display    the system libraries that Qt and OpenGL need, and a virtual screen
#   setup.sh programs   a PACS, a checker and a planning program that tests are held against; left out where they
#                       cannot be installed
# Missing Debian or Ubuntu packages are installed where this may be done (as root), else the line
# that does it is printed and the script ends with code 1.
set -eu

# Where a venv has its programs.
case "$(uname)" in MINGW* | MSYS* | CYGWIN*) bin=.venv/Scripts ;; *) bin=.venv/bin ;; esac

say() { printf '%s\n' "$*" >&2; }

# apt_install PACKAGE...: install them, or say how.
apt_install() {
    if ! command -v apt-get >/dev/null; then
        say "Missing on this machine, by their Debian names: $*"
        say "Install their like with your package manager, then run make again."
        exit 1
    fi
    if [ "$(id -u)" -ne 0 ]; then
        say "System packages are missing. Run this, then make again:"
        say "  sudo apt-get update && sudo apt-get install -y --no-install-recommends $*"
        exit 1
    fi
    say "Installing system packages: $*"
    # Without fresh lists a bare machine knows no package, or one that its mirror has dropped.
    apt-get update -q
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@"
}

# find_python: print the first interpreter of a version that we support; the pins are tried on 3.11.
find_python() {
    for candidate in ${PYTHON:-python3.11 python3.12 python3.13 python3.14 python3}; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

packages() {
    if ! [ -x "$bin/python" ] || ! "$bin/python" -m pip --version >/dev/null 2>&1; then
        python=$(find_python) || {
            say "No Python 3.11 or newer found (looked for: ${PYTHON:-python3.11 to python3.14, python3})."
            say "Debian 12 and Ubuntu 24.04 have it (apt-get install python3), or name one: make PYTHON=/path/to/python3.11"
            exit 1
        }
        # Debian ships Python without ensurepip, which makes a venv with no pip in it.
        if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
            apt_install "$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"
        fi
        say "Making .venv with $("$python" --version)"
        "$python" -m venv --clear .venv
    fi
    say "Installing Python packages (some gigabytes with a CUDA build of torch; minutes on first use)"
    "$bin/python" -m pip install -q --disable-pip-version-check -c constraints.txt pip setuptools
    "$bin/python" -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[all,docs,test]'
}

# What PyQt6, Mesa's software OpenGL and xvfb-run load at run time, and the package that brings each.
# Sought by file and not by package name, for the names differ between releases.
DISPLAY_LIBRARIES='
libEGL.so.1 libegl1
libGL.so.1 libgl1
libOpenGL.so.0 libopengl0
libGLX_mesa.so.0 libglx-mesa0
libglib-2.0.so.0 libglib2.0-0
libdbus-1.so.3 libdbus-1-3
libfontconfig.so.1 libfontconfig1
libxkbcommon-x11.so.0 libxkbcommon-x11-0
libxcb-cursor.so.0 libxcb-cursor0
libxcb-icccm.so.4 libxcb-icccm4
libxcb-image.so.0 libxcb-image0
libxcb-keysyms.so.1 libxcb-keysyms1
libxcb-randr.so.0 libxcb-randr0
libxcb-render-util.so.0 libxcb-render-util0
libxcb-shape.so.0 libxcb-shape0
libxcb-xfixes.so.0 libxcb-xfixes0
libxcb-xinerama.so.0 libxcb-xinerama0
libxcb-xkb.so.1 libxcb-xkb1
'

display() {
    [ "$(uname)" = Linux ] || return 0
    present=$(PATH="$PATH:/sbin:/usr/sbin" ldconfig -p)
    missing=$(printf '%s' "$DISPLAY_LIBRARIES" | while read -r library package; do
        case "$library" in '') continue ;; esac
        case "$present" in *"$library "*) ;; *) printf '%s ' "$package" ;; esac
    done)
    if [ -z "${DISPLAY:-}${WAYLAND_DISPLAY:-}" ]; then
        command -v xvfb-run >/dev/null || missing="$missing xvfb"
        command -v xauth >/dev/null || missing="$missing xauth"
        # Without a screen there is no graphics card either: Mesa's software driver draws.
        [ -n "$(find /usr/lib* -name swrast_dri.so -o -name 'libgallium-*.so' 2>/dev/null | head -n 1)" ] ||
            missing="$missing libgl1-mesa-dri"
    fi
    # shellcheck disable=SC2086  # a list of words
    [ -z "$missing" ] || apt_install $missing
}

# A program and the Debian package that brings it; the PACS's plugin has none of its own.
programs() {
    missing=
    for pair in Orthanc:orthanc dciodvfy:dicom3tools plastimatch:plastimatch; do
        PATH="$PATH:/usr/sbin" command -v "${pair%%:*}" >/dev/null || missing="$missing ${pair##*:}"
    done
    [ -n "$(find /usr/share/orthanc/plugins -name 'libOrthancDicomWeb*' 2>/dev/null)" ] ||
        missing="$missing orthanc-dicomweb"
    [ -n "$missing" ] || return 0
    # shellcheck disable=SC2086  # a list of words
    (apt_install $missing) || say "Without them their tests are skipped."
    case "$missing" in *orthanc*)
        # Debian starts a PACS as soon as it is there; the tests start their own, on the loopback.
        if [ -d /run/systemd/system ]; then systemctl disable -q --now orthanc || true; fi ;;
    esac
}

case "${1:-}" in
    packages | display | programs) "$1" ;;
    *) say "usage: setup.sh packages|display|programs"; exit 2 ;;
esac
