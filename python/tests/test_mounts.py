"""Buckets as SkyPilot mounts them: rclone with its cache, s3fs, over an S3 server on loopback (moto). A run is killed, its machine is lost, another one reads the bucket."""
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

import numpy as np

import ingot

try:
    import boto3
    import moto  # noqa: F401
except ImportError:
    boto3 = None

SCRIPT = """
import sys, time, numpy as np, ingot
ck = ingot.Checkpointer(sys.argv[1], signals=False, keep=ingot.Keep(last=3), settle=2 if "rclone" in sys.argv[1] else None)
state = {"a": np.zeros(100_000, np.float32), "n": 0}
step = ck.restore(state)
while True:
    step += 1
    state["a"] += 1
    state["n"] = step
    ck.save(step, state).wait()
    print(step, flush=True)
    time.sleep(0.4)  # a step
"""
PORT = 5059


def missing():
    if boto3 is None:
        return "moto and boto3 are not there"
    for tool in ("rclone", "s3fs", "fusermount3"):
        if shutil.which(tool) is None:
            return f"{tool} is not there"
    return "" if os.path.exists("/dev/fuse") and os.geteuid() == 0 else "no FUSE for this user"


@unittest.skipIf(missing(), missing())
class Mounts(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.tmp = tempfile.mkdtemp()
        env = {k: v for k, v in os.environ.items() if k != "AWS_CA_BUNDLE"}
        cls.env = dict(env, AWS_ACCESS_KEY_ID="k", AWS_SECRET_ACCESS_KEY="s", AWS_DEFAULT_REGION="us-east-1", AWSACCESSKEYID="k", AWSSECRETACCESSKEY="s")
        cls.quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
        cls.server = subprocess.Popen([sys.executable, "-m", "moto.server", "-p", str(PORT)], env=cls.env, **cls.quiet)
        cls.s3 = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{PORT}", aws_access_key_id="k", aws_secret_access_key="s", region_name="us-east-1")
        for _ in range(200):
            try:
                cls.s3.list_buckets()
                break
            except Exception:
                time.sleep(0.1)

    @classmethod
    def tearDownClass(cls):
        cls.server.kill()
        cls.server.wait()
        shutil.rmtree(cls.tmp, ignore_errors=True)

    def mount(self, kind, bucket):
        """A machine: its mount point, and how it is lost."""
        point = tempfile.mkdtemp(prefix=kind, dir=self.tmp)
        if kind == "rclone":
            conf, cache = os.path.join(point + ".conf"), point + ".cache"
            with open(conf, "w") as f:
                f.write(f"[m]\ntype = s3\nprovider = Other\naccess_key_id = k\nsecret_access_key = s\nendpoint = http://127.0.0.1:{PORT}\nforce_path_style = true\nregion = us-east-1\n")
            words = ["rclone", "--config", conf, "mount", f"m:{bucket}", point, "--vfs-cache-mode", "full", "--cache-dir", cache, "--vfs-write-back", "1s", "--dir-cache-time", "1s"]
        else:
            words = ["s3fs", bucket, point, "-f", "-o", f"url=http://127.0.0.1:{PORT},use_path_request_style"]
        process = subprocess.Popen(words, env=self.env, **self.quiet)
        for _ in range(100):
            if os.path.ismount(point):
                break
            time.sleep(0.1)
        self.assertTrue(os.path.ismount(point), f"{kind} did not mount")

        def lose():
            process.kill()
            process.wait()
            subprocess.run(["fusermount3", "-uz", point], **{k: v for k, v in self.quiet.items() if k != "start_new_session"})
        return point, lose

    def machine(self, kind, bucket, seconds):
        """Trains for that long, then the process and the mount are killed; the last step that was acknowledged."""
        point, lose = self.mount(kind, bucket)
        p = subprocess.Popen([sys.executable, "-c", SCRIPT, os.path.join(point, "run")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                             env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)))
        time.sleep(seconds)
        p.kill()
        out, err = p.communicate()
        lose()
        return int(out.split()[-1]) if out.split() else 0, err

    def lost_machines(self, kind):
        bucket = f"run-{kind}"
        self.s3.create_bucket(Bucket=bucket)
        choose = random.Random(3)
        newest = 0
        for _ in range(3):
            acknowledged, err = self.machine(kind, bucket, choose.uniform(3, 5) + (4 if kind == "rclone" else 0))
            point, lose = self.mount(kind, bucket)
            try:
                state = {"a": None, "n": 0}
                step = ingot.Checkpointer(os.path.join(point, "run"), signals=False).restore(state)
                if step:
                    self.assertEqual(state["n"], step)
                    self.assertTrue((state["a"] == np.float32(step)).all())
                # What s3fs closed is in the bucket; rclone uploads later, and loses with the machine what it had not uploaded.
                self.assertGreaterEqual(step, acknowledged if kind == "s3fs" else newest, err)
                newest = max(newest, step)
            finally:
                lose()
        self.assertGreater(newest, 0, f"nothing had reached the bucket: {err}")

    def test_s3fs(self):
        self.lost_machines("s3fs")

    def test_rclone_with_its_cache(self):
        self.lost_machines("rclone")


if __name__ == "__main__":
    unittest.main()
