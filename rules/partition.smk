checkpoint partition:
    input:
        catalog=catalog_of_inputs,
    output:
        descriptors=directory("<work>/partitions"),
        plan="<work>/plan.json",
    log:
        "<logs>/partition.log",
    benchmark:
        "<benchmarks>/partition.jsonl"
    conda:
        "../envs/protosonic.yaml"
    resources:
        mem_mb=lambda wildcards, input, attempt: CAMPAIGN.mem_mb_of_records(
            input.catalog, attempt
        ),
        runtime=lambda wildcards, attempt: 30 * attempt,
    params:
        failures=CAMPAIGN.layout.failures,
        # After a pilot it is part of what is depended on.
        digest=CAMPAIGN.partition_digest,
        pilot=CAMPAIGN.pilot_option,
    message:
        "Cut the campaign into partitions"
    shell:
        "protosonic --failures {params.failures} partition"
        " --descriptors {output.descriptors} --plan {output.plan} {params.pilot} {input.catalog} > {log} 2>&1"
