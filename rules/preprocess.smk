rule preprocess:
    # Descriptors are named by their content, so their time of modification says nothing.
    input:
        descriptor=ancient("<work>/partitions/{partition}.json"),
    output:
        unit=temp("<work>/units/{partition}.h5"),
    log:
        "<logs>/preprocess/{partition}.log",
    benchmark:
        "<benchmarks>/preprocess/{partition}.jsonl"
    conda:
        "../envs/protosonic.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: CAMPAIGN.mem_mb(wildcards.partition, attempt),
        runtime=lambda wildcards, attempt: CAMPAIGN.runtime(
            wildcards.partition, attempt
        ),
    params:
        failures=CAMPAIGN.layout.failures,
        digest=CAMPAIGN.digest("preprocess"),
    message:
        "Prepare the images of partition {wildcards.partition}"
    shell:
        "protosonic --failures {params.failures} preprocess"
        " --descriptor {input.descriptor} --output {output.unit} > {log} 2>&1"
