rule catalog:
    # The older records are kept while the job runs, so that only new files are read.
    input:
        files=lambda wildcards: CAMPAIGN.block_files(wildcards.block),
    output:
        records=update("<work>/catalog/{block}.json"),
    log:
        "<logs>/catalog/{block}.log",
    benchmark:
        "<benchmarks>/catalog/{block}.jsonl"
    conda:
        "../envs/protosonic.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 1000 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        failures=CAMPAIGN.layout.failures,
        inputs=lambda wildcards: CAMPAIGN.layout.inputs / f"{wildcards.block}.json",
        digest=lambda wildcards: CAMPAIGN.block_digest(wildcards.block),
    message:
        "Catalog block {wildcards.block}"
    shell:
        "protosonic --failures {params.failures} catalog --inputs {params.inputs}"
        " --output {output.records} > {log} 2>&1"
