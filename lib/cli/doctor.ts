import { Command } from 'commander';
import { describeDiagnosis, diagnose } from '../install/doctor';
import { jsonFlag } from './flags';
import { print } from './output';

/** `torchbind doctor`. */
export function doctorCommand(): Command {
  return new Command('doctor')
    .summary('say what works on this machine, what does not, and why')
    .description(
      'Says what works on this machine, what does not, and why. The exit status is 1 where it does not work.',
    )
    .addOption(jsonFlag())
    .action(({ json }: { json?: boolean }) => {
      const diagnosis = diagnose();
      print(json, diagnosis, describeDiagnosis(diagnosis));
      process.exitCode = diagnosis.ok ? 0 : 1;
    });
}
