rule infer:
    input:
        unit="<work>/units/{partition}.h5",
        descriptor=ancient("<work>/partitions/{partition}.json"),
        # The small record says whether the model has changed.
        model=ancient("<work>/model/model.onnx"),
        weights=ancient("<work>/model/weights.npz"),
        record="<work>/model/model.json",
    output:
        scores="<work>/scores/{partition}.parquet",
        status="<work>/status/{partition}.json",
    log:
        "<logs>/infer/{partition}.log",
    benchmark:
        "<benchmarks>/infer/{partition}.jsonl"
    conda:
        "../envs/protosonic.yaml"
    threads: threads_of_infer
    resources:
        gpu_clients=CAMPAIGN.gpu_clients,
        wan_mbps=CAMPAIGN.wan_mbps,
        mem_mb=lambda wildcards, attempt, threads: CAMPAIGN.mem_mb(
            wildcards.partition, attempt, threads
        ),
        runtime=lambda wildcards, attempt: CAMPAIGN.runtime(
            wildcards.partition, attempt
        ),
    params:
        failures=CAMPAIGN.layout.failures,
        digest=CAMPAIGN.digest(
            "inference.policy",
            "inference.precision",
            "inference.tolerance",
            "model.name",
            "model.version",
        ),
    message:
        "Score the hits of partition {wildcards.partition}"
    shell:
        "protosonic --failures {params.failures} infer --unit {input.unit}"
        " --descriptor {input.descriptor} --model {input.model} --model-record {input.record}"
        " --weights {input.weights}"
        " --scores {output.scores} --status {output.status} --threads {threads} > {log} 2>&1"
