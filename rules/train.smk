# Not part of a campaign: snakemake train, or protosonic run CONFIG -- train (docs/training.md).
rule train_network:
    output:
        model="<training>/model.onnx",
        full="<training>/model-float32.onnx",
        figures="<training>/training.json",
        curves="<training>/training.png",
    log:
        "<logs>/train_network.log",
    benchmark:
        "<benchmarks>/train_network.jsonl"
    conda:
        "../envs/protosonic.yaml"
    threads: 16
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=lambda wildcards, attempt: 240 * attempt,
    params:
        failures=CAMPAIGN.layout.failures,
        folder=subpath(output.model, parent=True),
        options=CAMPAIGN.training_options,
    message:
        "Simulate events and train the network on them"
    shell:
        "protosonic --failures {params.failures} model train {params.folder} {params.options}"
        " --workers {threads} > {log} 2>&1"


rule train_held_out:
    output:
        events=temp("<training>/held-out/protodune-sp-run000077-0000.h5"),
    log:
        "<logs>/train_held_out.log",
    conda:
        "../envs/protosonic.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        failures=CAMPAIGN.layout.failures,
        folder=subpath(output.events, parent=True),
        events=CAMPAIGN.settings.training.held_out_events,
        seed=CAMPAIGN.settings.campaign.seed,
    message:
        "Simulate events that no training has seen"
    shell:
        "protosonic --failures {params.failures} simulate {params.folder} --run 77"
        " --events {params.events} --seed {params.seed} > {log} 2>&1"


rule train:
    input:
        model="<training>/model.onnx",
        events="<training>/held-out/protodune-sp-run000077-0000.h5",
    output:
        evaluation=directory("<training>/evaluation"),
    log:
        "<logs>/train.log",
    conda:
        "../envs/protosonic.yaml"
    threads: 2
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        failures=CAMPAIGN.layout.failures,
    message:
        "Evaluate the network on held-out events"
    shell:
        "protosonic --failures {params.failures} model evaluate {input.events} --model {input.model}"
        " --output {output.evaluation} > {log} 2>&1"
