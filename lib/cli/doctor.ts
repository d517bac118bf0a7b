import { Command } from 'commander';
import { describeDiagnosis, diagnose } from '../install/doctor';
import { jsonFlag } from './flags';
import { print } from './output';

/** `torchbind doctor`. */
export function doctorCommand(): Command {
  return new Command('doctor')
    .summary('report what works on this machine, and why other parts do not')
    .description(
      'Reports which parts of torchbind work on this machine, and why others do not. The exit status is 1 if torchbind does not work.',
    )
    .addOption(jsonFlag())
    .action(({ json }: { json?: boolean }) => {
      const diagnosis = diagnose();
      print(json, diagnosis, describeDiagnosis(diagnosis));
      process.exitCode = diagnosis.ok ? 0 : 1;
    });
}
