"""Generates `foreshade/v1` from the contract: `python3 generate.py FOLDER`.

The code is made where it is used and not kept: protobuf's runtime refuses code that a newer compiler made, and warns of older.
By grpcio-tools where Python has them, else by `protoc` and `grpc_python_plugin` (Debian: protobuf-compiler,
protobuf-compiler-grpc).
"""

import glob
import importlib.util
import os
import shutil
import subprocess
import sys

PROTO = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..', 'proto')


def generate(folder):
    """Writes the modules below the folder, which is made."""
    os.makedirs(folder, exist_ok=True)
    files = sorted(glob.glob(os.path.join(PROTO, 'foreshade', 'v1', '*.proto')))
    outputs = [f'--python_out={folder}', f'--grpc_python_out={folder}']
    if importlib.util.find_spec('grpc_tools'):
        compiler = [sys.executable, '-m', 'grpc_tools.protoc']
    else:
        plugin = shutil.which('grpc_python_plugin')
        if plugin is None:
            raise RuntimeError('neither grpcio-tools nor grpc_python_plugin is installed')
        compiler = ['protoc', f'--plugin=protoc-gen-grpc_python={plugin}']
    subprocess.run([*compiler, f'--proto_path={PROTO}', *outputs, *files], check=True)


if __name__ == '__main__':
    generate(sys.argv[1])
