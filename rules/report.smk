rule report:
    input:
        hits="<results>/hits",
        accounting="<results>/accounting.parquet",
        campaign="<results>/campaign.json",
    output:
        report=report(
            "<results>/report.html",
            caption="../workflow/report/report.rst",
            category="Campaign",
            labels={"what": "report"},
        ),
    log:
        "<logs>/report.log",
    benchmark:
        "<benchmarks>/report.jsonl"
    conda:
        "../envs/protosonic.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 1500 * attempt,
        runtime=lambda wildcards, attempt: 30 * attempt,
    params:
        campaign=CAMPAIGN.layout.name,
        failures=CAMPAIGN.layout.failures,
        options=CAMPAIGN.report_options,
        digest=CAMPAIGN.digest("campaign.name"),
    message:
        "Write the report"
    shell:
        "protosonic --failures {params.failures} report . --campaign {params.campaign}"
        " {params.options} > {log} 2>&1"


rule accept:
    # Last, so that dataset and report are there also when too many events are quarantined.
    input:
        campaign="<results>/campaign.json",
        report="<results>/report.html",
    output:
        touch("<work>/accepted"),
    log:
        "<logs>/accept.log",
    # It reads one file: too little for a job of a cluster.
    localrule: True
    conda:
        "../envs/protosonic.yaml"
    resources:
        mem_mb=500,
        runtime=10,
    params:
        campaign=CAMPAIGN.layout.name,
        failures=CAMPAIGN.layout.failures,
    message:
        "Check how many events are quarantined"
    shell:
        "protosonic --failures {params.failures} accept . --campaign {params.campaign} > {log} 2>&1"
