// The alerts. docs/operate.md has a section for each, of the same name; docs/telemetry.md tells the metrics they go by.
param location string
param tags object
param applicationInsightsId string
param logAnalyticsId string
param serviceBusNamespaceId string
param serviceBusNamespaceName string

@description('Address that alerts are mailed to. Empty: they are shown in the portal only.')
param actionGroupEmail string = ''

@description('oldest-message: minutes that a message may wait.')
@minValue(1)
param oldestMessageMinutes int = 15

@description('silent: measurements of the reconciler in 30 minutes; fewer alert.')
@minValue(1)
param fewestMeasurements int = 1

@description('parked: messages that may be parked.')
@minValue(0)
param mostParked int = 0

@description('dead-letters: dead letters that may be found in 15 minutes.')
@minValue(0)
param mostDeadLetters int = 0

@description('dead-letters-left: dead letters that may stay on a queue.')
@minValue(0)
param mostDeadLettersLeft int = 0

@description('empty-full-pass: readings of a whole object in an hour that may give nothing, though records are stored.')
@minValue(0)
param mostEmptyPasses int = 0

@description('expiring: days that a secret or a watch must still be good.')
@minValue(1)
param fewestDaysLeft int = 14

@description('connection-lag: minutes since a connection was last read.')
@minValue(1)
param connectionLagMinutes int = 60

@description('function-failures: invocations of one function that may fail in 15 minutes.')
@minValue(0)
param mostFunctionFailures int = 5

@description('store-throttling: requests in 15 minutes that Cosmos DB may refuse for throughput.')
@minValue(0)
param mostThrottled int = 500

var ours = 'where _ResourceId =~ "${applicationInsightsId}"'
var page = 'See docs/operate.md'

// Each compares the column Value of a query with its threshold, for each combination of its dimensions. A gauge's value is
// in Sum, as each of its points is a row.
var alerts = [
  {
    name: 'oldest-message'
    severity: 2
    description: 'The oldest message of a queue has waited for longer than ${oldestMessageMinutes} minutes: a stage is slower than what comes in, or stands still. Look for a failing dependency, then raise the maximum of instances. ${page}#oldest-message.'
    query: 'AppMetrics | ${ours} | where Name == "shardline.queue.oldest_age" | extend Queue = tostring(Properties["messaging.destination.name"]) | summarize Value = max(Sum) by Queue'
    dimensions: ['Queue']
    aggregation: 'Maximum'
    operator: 'GreaterThan'
    threshold: oldestMessageMinutes * 60
    window: 'PT15M'
    every: 'PT5M'
  }
  {
    name: 'silent'
    severity: 1
    description: 'The reconciler has measured nothing for 30 minutes: the app does not run, or its telemetry does not arrive, and no other alert can fire. See whether its functions are invoked. ${page}#silent.'
    query: 'AppMetrics | ${ours} | where Name == "shardline.queue.depth" | summarize Value = count()'
    dimensions: []
    aggregation: 'Total'
    operator: 'LessThan'
    threshold: fewestMeasurements
    window: 'PT30M'
    every: 'PT15M'
  }
  {
    name: 'parked'
    severity: 2
    description: 'More than ${mostParked} messages are parked for one reason: they could not be processed as they are. List them with "shardline parked", mend what their detail names, then replay them. ${page}#parked.'
    query: 'AppMetrics | ${ours} | where Name == "shardline.parked" | extend Reason = tostring(Properties["shardline.reason"]) | summarize Value = max(Sum) by Reason'
    dimensions: ['Reason']
    aggregation: 'Maximum'
    operator: 'GreaterThan'
    threshold: mostParked
    window: 'PT15M'
    every: 'PT15M'
  }
  {
    name: 'dead-letters'
    severity: 2
    description: 'Service Bus gave up on messages, and the reconciler has parked them: whoever processed them was ended each time, or they grew too old. Look for what ends the process. ${page}#dead-letters.'
    query: 'AppMetrics | ${ours} | where Name == "shardline.dead_letters" | extend Queue = tostring(Properties["messaging.destination.name"]) | summarize Value = sum(Sum) by Queue'
    dimensions: ['Queue']
    aggregation: 'Total'
    operator: 'GreaterThan'
    threshold: mostDeadLetters
    window: 'PT15M'
    every: 'PT5M'
  }
  {
    name: 'empty-full-pass'
    severity: 2
    description: 'A reading of all records of an object gave none, though records of it are stored: the user of the connection may no longer see them. Nothing was deleted here. Give the user access again. ${page}#empty-full-pass.'
    query: 'AppMetrics | ${ours} | where Name == "shardline.full_pass.empty" | extend Tenant = tostring(Properties["shardline.tenant_id"]), Connection = tostring(Properties["shardline.connection_id"]), Object = tostring(Properties["shardline.object_type"]) | summarize Value = sum(Sum) by Tenant, Connection, Object'
    dimensions: ['Tenant', 'Connection', 'Object']
    aggregation: 'Total'
    operator: 'GreaterThan'
    threshold: mostEmptyPasses
    window: 'PT1H'
    every: 'PT15M'
  }
  {
    name: 'expiring'
    severity: 2
    description: 'A secret, or a watch on a source, expires in less than ${fewestDaysLeft} days; after it the connection fails. Put a new version of the secret into the vault, or renew the watch. ${page}#expiring.'
    query: 'AppMetrics | ${ours} | where Name == "shardline.expiry.left" | extend Tenant = tostring(Properties["shardline.tenant_id"]), Kind = tostring(Properties["shardline.kind"]), Item = tostring(Properties["shardline.name"]) | summarize arg_max(TimeGenerated, Sum) by Tenant, Kind, Item | project Tenant, Kind, Item, Value = Sum | where Kind != "watch" or Value < 1'
    dimensions: ['Tenant', 'Kind', 'Item']
    aggregation: 'Minimum'
    operator: 'LessThan'
    threshold: fewestDaysLeft
    window: 'P1D'
    every: 'PT1H'
  }
  {
    name: 'connection-lag'
    severity: 2
    description: 'A connection was last read more than ${connectionLagMinutes} minutes ago: its polls fail, or its API budget is used up. Its error stands in "shardline status". ${page}#connection-lag.'
    query: 'AppMetrics | ${ours} | where Name == "shardline.connection.lag" | extend Tenant = tostring(Properties["shardline.tenant_id"]), Connection = tostring(Properties["shardline.connection_id"]) | summarize Value = max(Sum) by Tenant, Connection'
    dimensions: ['Tenant', 'Connection']
    aggregation: 'Maximum'
    operator: 'GreaterThan'
    threshold: connectionLagMinutes * 60
    window: 'PT15M'
    every: 'PT15M'
  }
  {
    name: 'function-failures'
    severity: 2
    description: 'More than ${mostFunctionFailures} invocations of a function failed in 15 minutes. A queue function fails only while the bus is away; a timer while the store or the bus is. ${page}#function-failures.'
    query: 'AppRequests | ${ours} | where Success == false and AppRoleName != "shardline" | summarize Value = count() by Function = Name'
    dimensions: ['Function']
    aggregation: 'Total'
    operator: 'GreaterThan'
    threshold: mostFunctionFailures
    window: 'PT15M'
    every: 'PT5M'
  }
  {
    name: 'store-throttling'
    severity: 3
    description: 'Cosmos DB refused more than ${mostThrottled} requests in 15 minutes because their request units exceed the throughput. They are tried again; if it lasts, raise the throughput. ${page}#store-throttling.'
    query: 'AppMetrics | ${ours} | where Name == "shardline.store.throttled" | extend Function = tostring(Properties["shardline.function"]) | summarize Value = sum(Sum) by Function'
    dimensions: ['Function']
    aggregation: 'Total'
    operator: 'GreaterThan'
    threshold: mostThrottled
    window: 'PT15M'
    every: 'PT15M'
  }
]

resource mail 'Microsoft.Insights/actionGroups@2023-01-01' = if (!empty(actionGroupEmail)) {
  name: 'shardline-operators'
  location: 'global'
  tags: tags
  properties: {
    groupShortName: 'shardline'
    enabled: true
    emailReceivers: [
      {
        name: 'operators'
        emailAddress: actionGroupEmail
        useCommonAlertSchema: true
      }
    ]
  }
}

resource logAlerts 'Microsoft.Insights/scheduledQueryRules@2023-12-01' = [
  for alert in alerts: {
    name: 'shardline-${alert.name}'
    location: location
    tags: tags
    kind: 'LogAlert'
    properties: {
      displayName: 'Shardline: ${alert.name}'
      description: alert.description
      severity: alert.severity
      enabled: true
      scopes: [logAnalyticsId]
      evaluationFrequency: alert.every
      windowSize: alert.window
      criteria: {
        allOf: [
          {
            query: alert.query
            metricMeasureColumn: 'Value'
            timeAggregation: alert.aggregation
            dimensions: map(alert.dimensions, name => {
              name: name
              operator: 'Include'
              values: ['*']
            })
            operator: alert.operator
            threshold: alert.threshold
            failingPeriods: {
              numberOfEvaluationPeriods: 1
              minFailingPeriodsToAlert: 1
            }
          }
        ]
      }
      autoMitigate: true
      // A new workspace has no table yet that a query could be checked against.
      skipQueryValidation: true
      actions: {
        actionGroups: empty(actionGroupEmail) ? [] : [mail.id]
      }
    }
  }
]

// Of Service Bus itself, as it must fire when the app does not run.
resource deadLettersLeft 'Microsoft.Insights/metricAlerts@2018-03-01' = {
  name: 'shardline-dead-letters-left'
  location: 'global'
  tags: tags
  properties: {
    description: 'Queues of ${serviceBusNamespaceName} hold more than ${mostDeadLettersLeft} dead letters, which the reconciler should have parked within minutes: it does not run, or it fails. ${page}#dead-letters-left.'
    severity: 1
    enabled: true
    scopes: [serviceBusNamespaceId]
    evaluationFrequency: 'PT5M'
    windowSize: 'PT15M'
    criteria: {
      'odata.type': 'Microsoft.Azure.Monitor.SingleResourceMultipleMetricCriteria'
      allOf: [
        {
          criterionType: 'StaticThresholdCriterion'
          name: 'left'
          metricNamespace: 'Microsoft.ServiceBus/namespaces'
          metricName: 'DeadletteredMessages'
          dimensions: [
            {
              name: 'EntityName'
              operator: 'Include'
              values: ['*']
            }
          ]
          // What stays there for the whole window, not what is drained a moment later.
          timeAggregation: 'Minimum'
          operator: 'GreaterThan'
          threshold: mostDeadLettersLeft
        }
      ]
    }
    autoMitigate: true
    actions: empty(actionGroupEmail)
      ? []
      : [
          {
            actionGroupId: mail.id
          }
        ]
  }
}
