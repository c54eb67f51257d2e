"""What `crpbot cloud` asks for, by name."""

from typing import Annotated

import typer

BackendOption = Annotated[str, typer.Option("--backend", metavar="sagemaker|ec2", help="Which service trains.")]
SymbolsOption = Annotated[str | None, typer.Option("--symbols", help="Comma-separated; default: every symbol of the candles.")]
RegionOption = Annotated[str | None, typer.Option("--region", help="Default: AWS_REGION, else the profile's, else us-east-1.")]
BucketOption = Annotated[
    str | None, typer.Option("--bucket", envvar="CRPBOT_BUCKET", help="For everything. Default: crpbot-ACCOUNT-REGION.")
]
RoleOption = Annotated[
    str | None,
    typer.Option("--role", envvar="CRPBOT_ROLE", help="Role of SageMaker or instance profile of EC2. Default: as in docs/cloud."),
]
ImageOption = Annotated[str | None, typer.Option("--image", help="Container image, AMI, or SSM parameter that names an AMI.")]
InstanceOption = Annotated[str | None, typer.Option("--instance", help="Default: ml.g5.xlarge, or g5.xlarge.")]
SpotOption = Annotated[bool, typer.Option("--spot", help="Cheaper machines that may be taken away; training goes on then.")]
PriceOption = Annotated[
    float | None, typer.Option("--price", metavar="USD", help="An hour of the machine, instead of the table's.")
]
DemandOption = Annotated[
    float | None, typer.Option("--on-demand-price", metavar="USD", help="An hour on demand, the most that AWS charges for spot.")
]
MostOption = Annotated[
    float | None, typer.Option("--max-cost", metavar="USD", help="Refuse above it, and stop machines before it is spent.")
]
HoursOption = Annotated[float | None, typer.Option("--max-hours", help="Stop each machine after these.")]
SubnetOption = Annotated[str | None, typer.Option("--subnet", help="Of EC2, where there is no default network.")]
GroupOption = Annotated[str | None, typer.Option("--security-group", help="Of EC2; default: one without inbound rules.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
JobsArgument = Annotated[
    list[str] | None, typer.Argument(metavar="[JOB|SYMBOL]...", help="Default: all that were sent from here.")
]
