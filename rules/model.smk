rule model:
    input:
        model=CAMPAIGN.model_files,
    output:
        model="<work>/model/model.onnx",
        record="<work>/model/model.json",
        weights="<work>/model/weights.npz",
    log:
        "<logs>/model.log",
    benchmark:
        "<benchmarks>/model.jsonl"
    # Every infer job waits for it.
    priority: 1
    conda:
        "../envs/protosonic.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 1000 * attempt,
        runtime=lambda wildcards, attempt: 10 * attempt,
    params:
        failures=CAMPAIGN.layout.failures,
        digest=CAMPAIGN.digest(
            "model.path", "inference.precision", "preprocess.profile"
        ),
    message:
        "Check the model"
    shell:
        "protosonic --failures {params.failures} model prepare"
        " --output {output.model} --record {output.record} --weights {output.weights} > {log} 2>&1"
