rule merge:
    input:
        scored=scored,
        catalog=rules.partition.input.catalog,
        plan="<work>/plan.json",
        model="<work>/model/model.json",
    output:
        hits=directory("<results>/hits"),
        accounting="<results>/accounting.parquet",
        campaign=report(
            "<results>/campaign.json",
            caption="../workflow/report/campaign.rst",
            category="Campaign",
            labels={"what": "provenance"},
        ),
    log:
        "<logs>/merge.log",
    benchmark:
        "<benchmarks>/merge.jsonl"
    conda:
        "../envs/protosonic.yaml"
    resources:
        mem_mb=lambda wildcards, input, attempt: 500
        + CAMPAIGN.mem_mb_of_records(input.catalog, attempt),
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        failures=CAMPAIGN.layout.failures,
        digest=CAMPAIGN.digest("campaign", "merge", "acceptance"),
    message:
        "Merge the scores into the dataset"
    shell:
        "protosonic --failures {params.failures} merge > {log} 2>&1"
