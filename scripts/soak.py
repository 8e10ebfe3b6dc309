"""Many jobs one after another on the page's server: does its memory grow?

    python scripts/soak.py --jobs 200

Prints the server's memory after every tenth job, and ends with 1 if the mean of the last quarter is a tenth above that
of the second. Some of the jobs are broken, too large, or given up half-way.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

from refsr.assets import sample_path
from refsr.io.photo import Photo, as_photo, write_photo
from refsr.resize import downscale_bicubic


def main() -> int:
    """Start a server, keep it busy, and watch it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--port", type=int, default=7898)
    arguments = parser.parse_args()
    address = f"http://127.0.0.1:{arguments.port}"
    command = [sys.executable, "-m", "refsr", "serve", "--port", str(arguments.port), "--keep-seconds", "30"]
    command += ["--max-megapixels", "4"]
    seen = []
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server,
    ):
        try:
            assert server.stdout is not None
            server.stdout.readline()
            pictures = _pictures(Path(folder))
            for number in range(arguments.jobs):
                kind = "broken" if number % 10 == 3 else "large" if number % 10 == 7 else "blurry"
                said = _job(address, pictures[kind], pictures["sharp"], give_up=number % 10 == 5)
                assert ("event: error" in said) == (kind != "blurry"), said
                if number % 10 == 9:
                    seen.append(_memory_mib(server.pid))
                    print(f"{number + 1:5} jobs: {seen[-1]:.0f} MiB", flush=True)
        finally:
            server.terminate()
    quarter = max(1, len(seen) // 4)
    before, after = (sum(part) / len(part) for part in (seen[quarter : 2 * quarter] or seen, seen[-quarter:]))
    print(f"second quarter {before:.0f} MiB, last quarter {after:.0f} MiB")
    return int(after > 1.1 * before)


def _pictures(folder: Path) -> dict[str, Path]:
    truth = as_photo(sample_path("truth"))
    found = {name: folder / f"{name}.png" for name in ("blurry", "sharp", "large", "broken")}
    write_photo(found["blurry"], Photo(pixels=downscale_bicubic(truth.pixels, 4)))
    write_photo(found["sharp"], as_photo(sample_path("reference")))
    write_photo(found["large"], truth)  # whose result would be
    found["broken"].write_bytes(b"\x89PNG\r\n\x1a\n nothing")
    return found


def _job(address: str, photo: Path, reference: Path, *, give_up: bool) -> str:
    """One job over the API; what was said. Given up, nothing is waited for."""
    data = [_upload(address, photo), [_upload(address, reference)], "PNG"]
    request = urllib.request.Request(
        f"{address}/gradio_api/call/upscale", json.dumps({"data": data}).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        event = json.load(answer)["event_id"]
    with urllib.request.urlopen(f"{address}/gradio_api/call/upscale/{event}", timeout=120) as answer:
        return "" if give_up else answer.read().decode()


def _upload(address: str, path: Path) -> dict[str, object]:
    head = b"--x\r\nContent-Disposition: form-data; name=files; filename=" + path.name.encode() + b"\r\n\r\n"
    request = urllib.request.Request(
        f"{address}/gradio_api/upload",
        head + path.read_bytes() + b"\r\n--x--\r\n",
        {"Content-Type": "multipart/form-data; boundary=x"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return {"path": json.load(answer)[0], "meta": {"_type": "gradio.FileData"}}


def _memory_mib(process: int) -> float:
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


if __name__ == "__main__":
    sys.exit(main())
