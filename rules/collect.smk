rule collect:
    # Only in campaigns of hundreds of partitions; the merge then reads a file of each bundle.
    input:
        scored=scored_of_bundle,
        plan=ancient("<work>/plan.json"),
    output:
        scores="<work>/bundles/{bundle}.parquet",
        record="<work>/bundles/{bundle}.json",
    log:
        "<logs>/collect/{bundle}.log",
    benchmark:
        "<benchmarks>/collect/{bundle}.jsonl"
    conda:
        "../envs/protosonic.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 1000 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        failures=CAMPAIGN.layout.failures,
    message:
        "Collect the scores of bundle {wildcards.bundle}"
    shell:
        "protosonic --failures {params.failures} collect --bundle {wildcards.bundle} > {log} 2>&1"
