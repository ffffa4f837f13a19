"""Buckets as SkyPilot mounts them: rclone with its cache and without, s3fs, over an S3 server on loopback (moto). A run is killed, its machine is lost, another one reads the bucket."""
import http.server
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import warnings

import numpy as np

import ingot

try:
    import boto3
    import moto  # noqa: F401
except ImportError:
    boto3 = None

SCRIPT = """
import sys, time, numpy as np, ingot
ck = ingot.Checkpointer(sys.argv[1], signals=False, keep=ingot.Keep(last=3))
state = {"a": np.zeros(100_000, np.float32), "n": 0}
step = ck.restore(state)
while True:
    step += 1
    state["a"] += 1
    state["n"] = step
    ck.save(step, state).wait(durable=True)
    print(step, flush=True)
    time.sleep(0.4)  # a step
"""
# A save that ends in the middle: the process is gone while its files are written.
TORN = """
import os, sys, threading, time, numpy as np, ingot
ck = ingot.Checkpointer(sys.argv[1], signals=False)
state = {"a": np.zeros(8_000_000, np.float32)}
ck.save(1000, state)
while not os.path.exists(os.path.join(sys.argv[1], "checkpoint-1000", "a.safetensors")):
    time.sleep(0.01)
os._exit(9)
"""
PORT = 5059
INGOT = next((p for p in (os.path.join(d, "..", "ingot") for d in sys.path) if os.path.isfile(p) and os.access(p, os.X_OK)), None)


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

    def mount(self, kind, bucket, *options, port=PORT, hidden=False):
        """A machine: its mount point, and how it is lost. kind: rclone (with its cache), plain (rclone without), s3fs. hidden: under a name that is not rclone's."""
        point = tempfile.mkdtemp(prefix=kind + " ", dir=self.tmp)  # the table of mounts writes a space as \\040
        if kind != "s3fs":
            conf, cache = point + ".conf", point + ".cache"
            with open(conf, "w") as f:
                f.write(f"[m]\ntype = s3\nprovider = Other\naccess_key_id = k\nsecret_access_key = s\nendpoint = http://127.0.0.1:{port}\nforce_path_style = true\nregion = us-east-1\n")
            words = ["rclone", "--config", conf, "mount", f"m:{bucket}", point, "--dir-cache-time", "1s", "--cache-dir", cache, "--low-level-retries", "1"]
            # moto refuses the uploads in parts that rclone makes of files of unknown size.
            words += ["--vfs-cache-mode", "full", "--vfs-write-back", "1s"] if kind == "rclone" else ["--streaming-upload-cutoff", "64M"]
            words += options
        else:
            words = ["s3fs", bucket, point, "-f", "-o", f"url=http://127.0.0.1:{port},use_path_request_style"]
        process = subprocess.Popen(["r"] + words[1:] if hidden else words, executable=shutil.which(words[0]), env=self.env, **self.quiet)
        for _ in range(100):
            if os.path.ismount(point):
                break
            time.sleep(0.1)
        self.assertTrue(os.path.ismount(point), f"{kind} did not mount")

        def lose():
            process.kill()
            process.wait()
            subprocess.run(["fusermount3", "-uz", point], **{k: v for k, v in self.quiet.items() if k != "start_new_session"})
        self.addCleanup(lose)
        return point, lose

    def bucket(self, name):
        self.s3.create_bucket(Bucket=name)
        return name

    def objects(self, bucket):
        return {o["Key"] for o in self.s3.list_objects_v2(Bucket=bucket).get("Contents", [])}

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
        bucket = self.bucket(f"run-{kind}")
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
                self.assertGreaterEqual(step, acknowledged, err)
                newest = max(newest, step)
            finally:
                lose()
        self.assertGreater(newest, 0, f"nothing had reached the bucket: {err}")

    def test_s3fs(self):
        self.lost_machines("s3fs")

    def test_rclone_with_its_cache(self):
        self.lost_machines("rclone")

    def test_rclone_without_a_cache(self):
        self.lost_machines("plain")

    def test_written_is_not_uploaded(self):
        bucket = self.bucket("written")
        point, lose = self.mount("rclone", bucket, "--vfs-write-back", "3s")
        run = os.path.join(point, "run")
        with ingot.Checkpointer(run, signals=False, keep=ingot.Keep(last=1)) as ck:
            self.assertEqual(ck.stats["uploaded"], -1)
            for step in (1, 2, 3):
                handle = ck.save(step, {"a": np.full(50_000, step, np.float32)}).wait()
                self.assertIs(handle.uploaded, False)
                self.assertEqual((ck.stats["newest"], ck.stats["uploaded"]), (step, step - 1 or -1))
                self.assertGreater(ck.stats["pending_bytes"], 200_000)
                listed = self.cli("ls", run)
                self.assertEqual([c["uploaded"] for c in listed["checkpoints"]][0], False)
                with self.assertRaisesRegex(TimeoutError, "not uploaded"):
                    handle.wait(0.05, durable=True)
                handle.wait(30, durable=True)
                self.assertIs(handle.uploaded, True)
                self.assertLessEqual({f"run/checkpoint-{step}/{n}" for n in ("a.safetensors", "state.json", "manifest.json")}, self.objects(bucket))
                self.assertEqual((ck.stats["newest"], ck.stats["uploaded"], ck.stats["pending_bytes"]), (step, step, 0))
            self.assertEqual([c["uploaded"] for c in self.cli("ls", run)["checkpoints"]][0], True)
        lose()
        point, lose = self.mount("rclone", bucket)
        state = {"a": None}
        self.assertEqual(ingot.Checkpointer(os.path.join(point, "run"), signals=False).restore(state), 3)

    def test_retention_waits_for_the_bucket_and_for_nothing_else(self):
        point, _ = self.mount("rclone", self.bucket("retention"))
        with ingot.Checkpointer(os.path.join(point, "run"), signals=False, keep=ingot.Keep(last=1)) as ck:
            ck.save(1, {"a": np.zeros(1000)}).wait(30, durable=True)
            ck.save(2, {"a": np.zeros(1000)}).wait(30, durable=True)
            ck.save(3, {"a": np.zeros(1000)}).wait()
            ck.wait()
            self.assertEqual(sorted(n for n in os.listdir(ck.directory) if n.startswith("checkpoint")), ["checkpoint-2", "checkpoint-3"])  # not the 300 s of who cannot look

    def test_nobody_who_can_tell(self):
        point, _ = self.mount("rclone", self.bucket("hidden"), hidden=True)
        with ingot.Checkpointer(os.path.join(point, "run"), signals=False) as ck:
            handle = ck.save(1, {"a": np.zeros(1000)}).wait()
            self.assertIsNone(handle.uploaded)
            self.assertIsNone(ck.stats["uploaded"])
            with self.assertRaisesRegex(ingot.Error, "is written, and whether it has been uploaded cannot be found out: .*--pid=host"):
                handle.wait(durable=True)
            self.assertIsNone(self.cli("ls", ck.directory)["checkpoints"][0]["uploaded"])

    def by_another_way(self, bucket, says, *options):
        """rclone under another name, and beside it a process that looks like one whose cache is out of sight: only what it `says` beyond that is there to be asked."""
        point, _ = self.mount("rclone", bucket, *options, hidden=True)
        stand_in = subprocess.Popen(["rclone", "-c", "import time; time.sleep(600)", "mount", f"m:{bucket}", point, "--vfs-cache-mode", "full", "--cache-dir", "/nowhere/at/all", *says], executable=sys.executable, **self.quiet)
        self.addCleanup(lambda: (stand_in.kill(), stand_in.wait()))
        return point

    def goes_there(self, bucket, point):
        with ingot.Checkpointer(os.path.join(point, "run"), signals=False) as ck:
            for step in (1, 2):
                handle = ck.save(step, {"a": np.full(50_000, step, np.float32)}).wait()
                self.assertIsNot(handle.uploaded, True)
                for _ in range(150):  # the log says nothing at first
                    if handle.uploaded:
                        break
                    time.sleep(0.1)
                self.assertIs(handle.uploaded, True)
                self.assertIn(f"run/checkpoint-{step}/manifest.json", self.objects(bucket))
                self.assertIn(f"run/checkpoint-{step}/a.safetensors", self.objects(bucket))

    def test_its_remote_control_tells(self):
        bucket = self.bucket("control")
        with tempfile.TemporaryDirectory() as d:
            for address in ("127.0.0.1:5573",):
                self.goes_there(bucket, self.by_another_way(bucket, ["--rc", "--rc-addr", address], "--rc", "--rc-addr", address, "--cache-dir", os.path.join(d, "cache")))

    def test_its_queue_tells(self):
        """As rclone has it from 1.69 on, whose cache belongs to somebody else."""
        queue, asked = [{"name": "run/checkpoint-1/a.safetensors", "size": 1, "uploading": True}, {"name": "others/x"}], []

        class Control(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                asked.append(self.path)
                body = json.dumps({"queue": queue} if self.path == "/vfs/queue" else {"error": "no"}).encode()
                self.send_response(200 if self.path == "/vfs/queue" else 500)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass
        server = http.server.HTTPServer(("127.0.0.1", 0), Control)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(lambda: (server.shutdown(), server.server_close()))
        point = self.by_another_way(self.bucket("queued"), ["--rc", "--rc-addr", f"localhost:{server.server_port}"])
        with ingot.Checkpointer(os.path.join(point, "run"), signals=False) as ck:
            handle = ck.save(1, {"a": np.zeros(1000)}).wait()
            time.sleep(2.5)
            self.assertIs(handle.uploaded, False)
            del queue[0]
            self.assertIs(handle.uploaded, True)  # what others wait for is not its matter
            handle = ck.save(2, {"a": np.zeros(1000)}).wait()
            self.assertIs(handle.uploaded, False)  # too early to be in a queue
            handle.wait(10, durable=True)
        self.assertIn("/vfs/queue", asked)

    def test_its_log_tells(self):
        bucket = self.bucket("logged")
        with tempfile.TemporaryDirectory() as d:
            log = os.path.join(d, "rclone.log")
            self.goes_there(bucket, self.by_another_way(bucket, ["--log-file", log], "--log-file", log, "--log-level", "INFO", "--vfs-cache-poll-interval", "1s"))

    def test_what_the_cache_cannot_hold_is_told_before(self):
        point, _ = self.mount("rclone", self.bucket("capped"), "--vfs-cache-max-size", "1M")
        with ingot.Checkpointer(os.path.join(point, "run"), signals=False) as ck:
            with self.assertWarnsRegex(RuntimeWarning, "capped at 1048576 bytes .--vfs-cache-max-size"):
                ck.save(1, {"a": np.zeros(500_000, np.float32)}).wait(30, durable=True)
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # once
                ck.save(2, {"a": np.ones(500_000, np.float32)}).wait(30, durable=True)

    def test_a_failed_upload_is_no_checkpoint(self):
        """Without a cache an upload is known to have failed when the file is closed: and only there."""
        server = subprocess.Popen([sys.executable, "-m", "moto.server", "-p", str(PORT + 1)], env=self.env, **self.quiet)
        self.addCleanup(lambda: (server.kill(), server.wait()))
        s3 = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{PORT + 1}", aws_access_key_id="k", aws_secret_access_key="s", region_name="us-east-1")
        for _ in range(200):
            try:
                s3.create_bucket(Bucket="failing")
                break
            except Exception:
                time.sleep(0.1)
        point, _ = self.mount("plain", "failing", "--retries", "1", "--contimeout", "2s", port=PORT + 1)
        ck = ingot.Checkpointer(os.path.join(point, "run"), signals=False)
        self.assertIs(ck.save(1, {"a": np.zeros(100_000, np.float32)}).wait().uploaded, True)
        server.kill()
        server.wait()
        with self.assertRaises(ingot.Error):
            ck.save(2, {"a": np.zeros(100_000, np.float32)}).wait()
        try:
            ck.close()
        except ingot.Error:
            pass

    def test_what_a_killed_save_left_goes(self):
        bucket = self.bucket("torn")
        point, _ = self.mount("s3fs", bucket)
        run = os.path.join(point, "run")
        with ingot.Checkpointer(run, signals=False) as ck:
            ck.save(1, {"a": np.zeros(1000, np.float32)}).wait()
        p = subprocess.run([sys.executable, "-c", TORN, run], env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)), capture_output=True, text=True)
        self.assertEqual(p.returncode, 9, p.stderr)
        self.assertIn("checkpoint-1000", os.listdir(run))
        with ingot.Checkpointer(run, signals=False) as ck:
            state = {"a": np.ones(1000, np.float32)}
            self.assertEqual(ck.restore(state), 1)
            ck.save(2, state).wait()
            ck.wait()
        self.assertEqual(sorted(n for n in os.listdir(run) if n.startswith("checkpoint")), ["checkpoint-1", "checkpoint-2"])

    def test_a_mount_that_dies_under_the_run(self):
        for kind in ("rclone", "s3fs"):
            bucket = self.bucket(f"dies-{kind}")
            point, lose = self.mount(kind, bucket)
            run = os.path.join(point, "run")
            ck = ingot.Checkpointer(run, signals=False)
            ck.save(1, {"a": np.zeros(1000, np.float32)}).wait(30, durable=True)
            lose()
            # What lies under the mount point now is this machine's own disk: nothing goes there.
            for step in (2, 3):
                with self.assertRaisesRegex(ingot.Error, "is not mounted there any more"):
                    ck.save(step, {"a": np.zeros(1000, np.float32)}).wait()
            self.assertEqual(os.listdir(point), [])
            ck.close()

    def test_doctor(self):
        for kind, durable in (("rclone", "uploads what is closed later; its cache in .* holds 1048576 bytes.*seen there"), ("plain", "without a cache"), ("s3fs", "what is closed is in the bucket")):
            point, _ = self.mount(kind, self.bucket(f"doctor-{kind}"), *(["--vfs-cache-max-size", "1M"] if kind == "rclone" else []))
            run = os.path.join(point, "run")
            os.mkdir(run)
            self.assertIsNotNone(INGOT)
            for _ in range(2):
                p = subprocess.run([INGOT, "doctor", run, "--json"], capture_output=True, text=True)
                self.assertEqual(p.returncode, 0, p.stderr + p.stdout)
                told = json.loads(p.stdout)
                self.assertEqual(told["protocol"], "manifest")
                self.assertRegex(told["durable"], durable)
                self.assertFalse([n for n in os.listdir(run) if "probe" in n])
                if kind == "rclone":
                    self.assertTrue(told["probe"]["append"] and told["probe"]["write anywhere"])
                if kind == "plain":
                    self.assertFalse(told["probe"]["write anywhere"])
                with ingot.Checkpointer(run, signals=False) as ck:
                    ck.save(1 + ck.restore({"a": None}), {"a": np.zeros(10)}).wait(30, durable=True)

    def cli(self, *words):
        if INGOT is None:
            self.skipTest("the program is not beside the package")
        p = subprocess.run([INGOT, "checkpoint", *words, "--json"], capture_output=True, text=True)
        self.assertEqual(p.returncode, 0, p.stderr)
        return json.loads(p.stdout)


if __name__ == "__main__":
    unittest.main()
