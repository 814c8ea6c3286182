"""What the tests do in a bucket of S3 themselves, with Amazon's own client.

    s3_objects.py create ENDPOINT BUCKET
    s3_objects.py download ENDPOINT BUCKET DIRECTORY
"""

import sys
from pathlib import Path

import boto3


def main():
    do, endpoint, bucket = sys.argv[1:4]
    client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
    if do == "create":
        client.create_bucket(Bucket=bucket)
        return
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for found in page.get("Contents", []):
            file = Path(sys.argv[4], found["Key"])
            file.parent.mkdir(parents=True, exist_ok=True)
            client.download_file(bucket, found["Key"], str(file))


main()
